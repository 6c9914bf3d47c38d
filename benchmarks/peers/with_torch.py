"""The step written by hand: what no library can undercut without compiling it."""

from collections.abc import Callable

from benchmarks.contestants import Contestant, by_hand
from benchmarks.handwritten import net_leave_one_out
from benchmarks.peers.problems import Problem, Toy

__all__ = ["contestants"]


def contestants(problem: Problem) -> dict[str, Callable[[], Contestant]]:
    program = problem.build()
    if isinstance(program, Toy):
        return {}
    return {"leave-one-out": lambda: by_hand(net_leave_one_out, problem.build(), problem.x, problem.particles)}
