"""Pyro's TraceGraph_ELBO in SVI, with and without its neural baseline."""

from collections.abc import Callable

from pyro.infer import TraceGraph_ELBO

from benchmarks.contestants import BaselinedBeliefNet, Contestant, svi
from benchmarks.peers.problems import Problem, Toy

__all__ = ["baselined", "contestants", "trace_graph"]


def contestants(problem: Problem) -> dict[str, Callable[[], Contestant]]:
    found = {"score function": lambda: svi(trace_graph(problem), problem.build(), problem.x)}
    return found if isinstance(problem.build(), Toy) else {**found, "learned baseline": lambda: baselined(problem)}


def trace_graph(problem: Problem) -> TraceGraph_ELBO:
    return TraceGraph_ELBO(num_particles=problem.particles, vectorize_particles=True, max_plate_nesting=1)


def baselined(problem: Problem, validate: bool = True) -> Contestant:
    """With a baseline network at every site of the guide."""
    net = problem.build()
    program = BaselinedBeliefNet(problem.x.shape[1], [len(e.last.bias) for e in net.encoders], problem.particles)
    program.load_state_dict(net.state_dict(), strict=False)
    return svi(trace_graph(problem), program.to(problem.x.device), problem.x, validate)
