"""Our estimators, by method: K draws, K/2 antithetic pairs, K/3 draws with a relaxed and a conditional one."""

from collections.abc import Callable
from functools import partial

from benchmarks.contestants import Contestant, ours
from benchmarks.peers.problems import Problem
from pplvm.bounds import elbo
from pplvm.objectives.antithetic import ARM, DisARM
from pplvm.objectives.baselines import LearnedBaseline
from pplvm.objectives.control_variates import REBAR, RELAX
from pplvm.objectives.objective import Objective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction

__all__ = ["contestants"]


def contestants(problem: Problem) -> dict[str, Callable[[], Contestant]]:
    K, D = problem.particles, problem.x.shape[1]
    objectives: dict[str, Callable[[], Objective]] = {
        "score function": lambda: ScoreFunction(elbo, K),
        "learned baseline": lambda: ScoreFunction(elbo, K, LearnedBaseline(D)),
        "leave-one-out": lambda: LeaveOneOut(elbo, K),
        "ARM": lambda: ARM(elbo, K // 2),
        "DisARM": lambda: DisARM(elbo, K // 2),
        "REBAR": lambda: REBAR(num_particles=max(1, K // 3)),
        "RELAX": lambda: RELAX(num_particles=max(1, K // 3)),
    }
    return {name: partial(_contestant, problem, objective) for name, objective in objectives.items()}


def _contestant(problem: Problem, objective: Callable[[], Objective]) -> Contestant:
    return ours(objective(), problem.build(), problem.x)
