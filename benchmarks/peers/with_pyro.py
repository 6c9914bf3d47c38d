"""Pyro's TraceGraph_ELBO in SVI, with and without its neural baseline."""

from collections.abc import Callable

from pyro.infer import TraceGraph_ELBO

from benchmarks.contestants import BaselinedBeliefNet, Contestant, svi
from benchmarks.peers.problems import Problem, Toy

__all__ = ["contestants"]


def contestants(problem: Problem) -> dict[str, Callable[[], Contestant]]:
    K = problem.particles

    def objective() -> TraceGraph_ELBO:
        return TraceGraph_ELBO(num_particles=K, vectorize_particles=True, max_plate_nesting=1)

    def with_baseline() -> Contestant:
        net = problem.build()
        program = BaselinedBeliefNet(problem.x.shape[1], [len(net.prior_logits)], K)
        program.load_state_dict(net.state_dict(), strict=False)
        return svi(objective(), program, problem.x)

    found = {"score function": lambda: svi(objective(), problem.build(), problem.x)}
    return found if isinstance(problem.build(), Toy) else {**found, "learned baseline": with_baseline}
