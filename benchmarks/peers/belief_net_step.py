"""A training step of the belief nets 784-200 (K = 10) and 784-200-200 (K = 50): leave-one-out and VIMCO, batch 20.

Pyro's and NumPyro's TraceGraph_ELBO estimate the gradient of the elbo, as leave-one-out does; VIMCO that of iwae.

python -m benchmarks.peers.belief_net_step [--rounds 21] [--threads 2] [--device cpu] [--json FILE]
"""

import importlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks.contestants import images, seeded
from benchmarks.handwritten import net_leave_one_out, net_vimco
from benchmarks.peers.agreement import Verdict
from benchmarks.peers.problems import Problem, belief_net
from benchmarks.peers.steps import by_hands, judge_of, numpyro, tiers
from benchmarks.peers.tables import Section, Target, run
from benchmarks.peers.with_pyro import baselined
from pplvm.bounds import elbo, iwae
from pplvm.objectives.score_function import LeaveOneOut

__all__ = ["section", "sections"]

PYRO = "Pyro SVI TraceGraph_ELBO, neural baseline"


def sections(device: str) -> Iterator[Section]:
    for layers, K, compiled, eager in ((1, 10, 0.18, 0.40), (2, 50, 0.38, 0.60)):
        build = partial(belief_net, 784, (200,) * layers)
        problem = Problem(partial(seeded, build), images(20), K).to(device)
        targets = [
            Target("ours RLOO, inductor", compiled, PYRO),
            Target("ours VIMCO, inductor", compiled, PYRO),
            Target("ours RLOO, eager", eager, PYRO),
            *[Target(f"ours {rule}, CUDA graph", 1.05, f"hand-written {rule}, CUDA graph") for rule in RULES],
        ]
        yield section(f"SBN 784{'-200' * layers}, K = {K}, B = 20", problem, targets)


RULES = {"RLOO": (net_leave_one_out, elbo), "VIMCO": (net_vimco, iwae)}


def section(title: str, problem: Problem, targets: Sequence[Target] = ()) -> Section:
    contestants = {
        PYRO: lambda: baselined(problem),
        f"{PYRO}, validation off": lambda: baselined(problem, validate=False),
        "NumPyro jit TraceGraph_ELBO": lambda: numpyro("TraceGraph_ELBO", problem),
    }
    if len(problem.build().encoders) == 1:
        contestants["storchastic RLOO"] = lambda: _storchastic(problem)
    judges = {}
    for rule, (by_hand, bound) in RULES.items():
        objective = partial(LeaveOneOut, bound, problem.particles)
        contestants |= by_hands(by_hand, problem, f"hand-written {rule}")
        contestants |= tiers(objective, problem, f"ours {rule}")
        judges[rule] = judge_of(by_hand, objective, problem)

    def judge(name: str, contestant: Any) -> Verdict:
        return judges["VIMCO" if "VIMCO" in name else "RLOO"](name, contestant)

    return Section(title, contestants, judge, targets, counted="hand-written RLOO, eager")


def _storchastic(problem: Problem) -> Any:
    return importlib.import_module("benchmarks.peers.with_storchastic").contestants(problem)["leave-one-out"]()


if __name__ == "__main__":
    run("belief_net_step", sections)
