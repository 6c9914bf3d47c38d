"""A graph that computes terms of one datum's particles, in chunks of bounded memory.

The noise of all particles is drawn at once, in program order, then cut; so the chunks' size changes no draw.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.graphs.backends import inductor, replay
from pplvm.graphs.break_even import BreakEven
from pplvm.graphs.interruptible import Interrupted, interruptible
from pplvm.graphs.module_state import ModuleState
from pplvm.graphs.noise import Draw
from pplvm.graphs.splitting import SplitGraph, split_at_noise
from pplvm.graphs.tracing import NotOneGraph, Traced, trace
from pplvm.particles.python_state import PythonState
from pplvm.particles.side_effects import without_side_effects

__all__ = ["Measure", "ParticleGraph", "particle_graph"]

Measure = Callable[..., Sequence[Tensor]]
"""From a number of particles, a datum (1, *shape) and its conditions to what is asked of each particle, (K, ...)."""

BYTES = {"cpu": 2**20, "cuda": 2**28}
"""Of the widest tensor of a chunk; on the CPU for each thread, about what a core's own cache holds."""


class ParticleGraph:
    """A graph for data of one shape and one number of particles.

    Arguments:
        parts: traced for a chunk of particles.
        noise: of all particles.
        chunk, num_particles: the chunk's, and all.
        held: parameters and buffers, which it reads anew at every call.
        row: a datum, with its conditions if it has any, on which both parts are tried.
    """

    def __init__(
        self, parts: SplitGraph, noise: tuple[Draw, ...], chunk: int, num_particles: int, held: ModuleState, row: Batch
    ) -> None:
        self.parts, self.noise, self.chunk, self.held = parts, noise, chunk, held
        self.starts = [*range(0, num_particles - chunk, chunk), num_particles - chunk]
        self.pace = BreakEven()
        self._may_compile = True
        self._before = replay(parts.before, [*held(), *as_tuple(row)])
        self._after = replay(parts.after, self._inputs(row))

    def known(self, row: Batch) -> Sequence[Tensor]:
        """What depends on the datum (1, *shape) alone, computed once."""
        return self._before([*self.held(), *as_tuple(row)])

    def __call__(self, row: Batch, known: Sequence[Tensor]) -> list[Tensor]:
        """Of all particles, (K, ...) each, from torch's stream."""
        noise, found, done = [draw() for draw in self.noise], [], 0
        for start in self.starts:  # the last chunk ends with the particles, and may begin among those done
            begin = time.perf_counter()
            outputs = self._after([*self.held(), *as_tuple(row), *known, *self._cut(noise, start)])
            self.pace.took(time.perf_counter() - begin)
            found.append([output[done - start :] for output in outputs])
            done = start + self.chunk
        return [torch.cat(outputs) for outputs in zip(*found, strict=True)]

    def compile_if_it_pays(self, runs: int, row: Batch) -> None:
        """Compile with Inductor if that is faster in all.

        Arguments:
            runs: planned in all, those done counted.
        """
        if self._may_compile and self.pace.pays(runs * len(self.starts)):
            self.compile(row)

    def compile(self, row: Batch) -> None:
        """Compile with Inductor; keep the replay where that fails."""
        self._may_compile = False
        try:
            with interruptible(), without_side_effects(nn.Module(), as_tuple(row)):
                inputs = self._inputs(row)
                compiled = inductor(self.parts.after, inputs)
                compiled(inputs)
        except (Exception, Interrupted):  # no compiler, say: the replayed graph gives the same
            return
        self._after = compiled

    def _inputs(self, row: Batch) -> list[Tensor]:
        return [*self.held(), *as_tuple(row), *self.known(row), *self._cut([draw() for draw in self.noise], 0)]

    def _cut(self, noise: list[Tensor], start: int) -> list[Tensor]:
        if len(self.starts) == 1:
            return noise
        return [each[start : start + self.chunk].clone() for each in noise]  # a graph may change it in place


def particle_graph(measure: Measure, num_particles: int, module: nn.Module, rows: Batch) -> ParticleGraph:
    """Trace a measure, in chunks if one tensor of all particles takes too many bytes; random state is restored.

    Arguments:
        measure: runs a program without gradient, in eval mode.
        module: whose parameters and buffers it reads.
        rows: data (N, *shape), with their conditions if they have any, on the first and the last of which the graph is
            held against `measure`.

    Raises:
        NotOneGraph: it cannot be traced, changes from call to call, draws within the graph, or differs.
    """
    held, parts = ModuleState(module), as_tuple(rows)
    row, last = (batch_rows(parts, each) for each in (slice(1), slice(-1, None)))
    watch = PythonState(module)
    state = watch.values()
    with without_side_effects(module, parts):
        whole = _traced(measure, num_particles, held, row)
        chunk = _fitting(whole, num_particles)
        part = whole if chunk == num_particles else _traced(measure, chunk, held, row)
        if part.noise != tuple(_piece(draw, chunk, num_particles) for draw in whole.noise):
            part, chunk = whole, num_particles
        found = ParticleGraph(split_at_noise(part), whole.noise, chunk, num_particles, held, row)
        for each in (row, last):
            _require_agreement(found, measure, num_particles, each)
    if watch.values() != state:
        raise NotOneGraph(f"{watch.changed(state, watch.values())} changes from call to call")
    found.pace = BreakEven()
    return found


def _traced(measure: Measure, num_particles: int, held: ModuleState, row: tuple[Tensor, ...]) -> Traced:
    traced = trace(lambda *row: measure(num_particles, *row), held(), list(row))
    if not traced.is_pure:
        raise NotOneGraph("it draws within the graph, or changes what it is given")
    return traced


def _fitting(whole: Traced, num_particles: int) -> int:
    """The particles of a chunk: of equal size, as many chunks as the largest tensor needs."""
    values = [node.meta.get("val") for node in whole.graph.graph.nodes if node.op == "call_function"]
    of_all = [v for v in values if isinstance(v, Tensor) and v.dim() and v.shape[0] % num_particles == 0]
    parts = max((v.numel() * v.element_size() / _budget(v.device) for v in of_all), default=1.0)
    return max(min(2, num_particles), math.ceil(num_particles / math.ceil(parts)))


def _budget(device: torch.device) -> int:
    return BYTES["cpu"] * torch.get_num_threads() if device.type == "cpu" else BYTES["cuda"]


def _piece(draw: Draw, chunk: int, num_particles: int) -> Draw | None:
    """A draw for one chunk; None if its first dimension is not the particles."""
    return replace(draw, shape=(chunk, *draw.shape[1:])) if draw.shape[:1] == (num_particles,) else None


def _require_agreement(graph: ParticleGraph, measure: Measure, num_particles: int, row: tuple[Tensor, ...]) -> None:
    """Compare the graph with the function that it was traced from.

    Raises:
        NotOneGraph: they differ.
    """
    torch.manual_seed(1)
    found = graph(row, graph.known(row))
    torch.manual_seed(1)
    for a, b in zip(found, measure(num_particles, *row), strict=True):
        gap = torch.where(a == b, 0, a - b).double().norm()
        if not gap <= torch.finfo(b.dtype).eps ** 0.5 * b[b.isfinite()].double().norm():
            raise NotOneGraph("on other noise or other data the graph differs from what it was traced from")
