"""The contestants of a table of training steps: ours in each tier, Pyro's SVI, by hand, NumPyro's SVI."""

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from benchmarks.contestants import ByHand, by_hand, captured, compiled_by_hand, in_tier, ours, svi
from benchmarks.peers.agreement import StepJudge, Verdict
from benchmarks.peers.problems import Problem
from pplvm.objectives.objective import Loss

__all__ = ["Builders", "by_hands", "judge_of", "numpyro", "pyros", "tiers"]

Builders = dict[str, Callable[[], Any]]
CUDA_GRAPH = "CUDA graph"


def tiers(objective: Callable[[], ELBO], problem: Problem, name: str = "ours") -> Builders:
    """Eager, replayed, compiled; on a GPU the last as a CUDA graph, too."""
    in_graph = lambda tier: in_tier(tier, objective(), problem.build(), problem.x)
    found = {
        f"{name}, eager": lambda: ours(objective(), problem.build(), problem.x),
        f"{name}, graph": partial(in_graph, "graph"),
        f"{name}, inductor": partial(in_graph, "inductor"),
    }
    return found | ({f"{name}, {CUDA_GRAPH}": lambda: captured(in_graph("inductor"))} if problem.x.is_cuda else {})


def by_hands(loss: ByHand, problem: Problem, name: str = "hand-written") -> Builders:
    """Eager; compiled, the noise drawn by torch or inside; on a GPU as a CUDA graph, too."""
    of = lambda build, **how: build(loss, problem.build(), problem.x, problem.particles, **how)
    found = {
        f"{name}, eager": lambda: of(by_hand),
        f"{name}, compiled": lambda: of(compiled_by_hand),
        f"{name}, compiled with its noise": lambda: of(compiled_by_hand, noise_inside=True),
    }
    return found | ({f"{name}, {CUDA_GRAPH}": lambda: captured(of(compiled_by_hand))} if problem.x.is_cuda else {})


def pyros(objective: Callable[[], ELBO], problem: Problem, name: str) -> Builders:
    """SVI as it is by default, and with validation off."""
    return {
        name: lambda: svi(objective(), problem.build(), problem.x),
        f"{name}, validation off": lambda: svi(objective(), problem.build(), problem.x, validate=False),
    }


def numpyro(objective: str, problem: Problem) -> Any:
    """NumPyro's SVI with the objective of that name."""
    infer = importlib.import_module("numpyro.infer")
    programs = importlib.import_module("benchmarks.peers.numpyro_programs")
    return programs.NumPyroContestant(problem, getattr(infer, objective)(num_particles=problem.particles))


def judge_of(loss: ByHand, objective: Callable[[], ELBO], problem: Problem) -> Callable[[str, Any], Verdict]:
    """The eager step by hand is trusted; what the loss falls by is told by our objective."""

    @cache
    def judge() -> StepJudge:
        trusted = by_hand(loss, problem.build(), problem.x, problem.particles)
        sizes = [p.numel() for p in trusted.program.parameters()]
        return StepJudge(trusted, sizes, partial(_value, Loss(objective(), problem.build()), problem.x))

    return lambda name, contestant: judge()(contestant)


@torch.no_grad()
def _value(loss: Loss, x: Tensor, parameters: Tensor, times: int = 10) -> float:
    vector_to_parameters(parameters.to(x.device), loss.program.parameters())
    torch.manual_seed(0)
    return float(sum(loss(x) for _ in range(times))) / times
