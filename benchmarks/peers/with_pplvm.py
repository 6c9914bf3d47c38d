"""Our estimators, by method."""

from collections.abc import Callable
from functools import partial

from benchmarks.contestants import Contestant, ours
from benchmarks.peers.problems import Problem
from pplvm.bounds import elbo
from pplvm.objectives.baselines import LearnedBaseline
from pplvm.objectives.objective import Objective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction

__all__ = ["contestants"]


def contestants(problem: Problem) -> dict[str, Callable[[], Contestant]]:
    K, D = problem.particles, problem.x.shape[1]
    objectives: dict[str, Callable[[], Objective]] = {
        "score function": lambda: ScoreFunction(elbo, K),
        "learned baseline": lambda: ScoreFunction(elbo, K, LearnedBaseline(D)),
        "leave-one-out": lambda: LeaveOneOut(elbo, K),
    }
    return {name: partial(_contestant, problem, objective) for name, objective in objectives.items()}


def _contestant(problem: Problem, objective: Callable[[], Objective]) -> Contestant:
    return ours(objective(), problem.build(), problem.x)
