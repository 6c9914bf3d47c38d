"""NumPyro's TraceGraph_ELBO in its SVI, step and gradient each compiled by jax."""

from collections.abc import Callable

from numpyro.infer import TraceGraph_ELBO

from benchmarks.peers.numpyro_programs import NumPyroContestant
from benchmarks.peers.problems import Problem

__all__ = ["contestants"]


def contestants(problem: Problem) -> dict[str, Callable[[], NumPyroContestant]]:
    return {"score function": lambda: NumPyroContestant(problem, TraceGraph_ELBO(num_particles=problem.particles))}
