"""How the replicates of one estimator are drawn: one by one, or in chunks through its graph where that pays."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from pplvm.evaluation.estimators.measurement import Drawn
from pplvm.evaluation.estimators.parameters import Parameters
from pplvm.evaluation.estimators.streams import Gradient
from pplvm.graphs.chunks import Chunk, Dense, Factors
from pplvm.graphs.compiled import Compiled, Tier
from pplvm.graphs.designs import Design
from pplvm.graphs.replicates import Replicates
from pplvm.objectives.objective import Loss

__all__ = ["Drawing", "random_state"]

SINGLE = 20
"""Replicates that are drawn one by one, so that a step's time is known."""

WORTH = 8.0
"""Seconds of replicates still to come for which a graph is made, twice what that takes."""


class Drawing:
    """Draws replicates of one estimator at the parameters as they stand; each is that of its seed, up to rounding.

    Arguments:
        loss: the estimator, tied to the program.
        parameters: of whom gradients are wanted.
        replicates: how many there will be in all.
        tier: "off" draws one by one, "graph" and "inductor" through a graph, "auto" through one where that pays.
        design, points: how a replicate's noise is laid out, see `pplvm.graphs.designs`.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Parameters,
        replicates: int,
        tier: Tier = "auto",
        design: Design = "independent",
        points: int = 1,
    ) -> None:
        self.loss, self.parameters, self.left, self.tier = loss, parameters, replicates, tier
        self.design, self.points, self.is_plain = design, points, design == "independent" and points == 1
        self._step = Compiled(loss, "off" if tier == "auto" else tier, tell=lambda words: None)
        self._graphs: dict[torch.Size, Replicates] = {}
        self._milliseconds: list[float] = []
        self._repeated: Drawn | None = None  # of an objective without noise
        self._unmoved = 0

    @property
    def plan(self) -> str:
        """In words: one by one, or how many at a time and which gradients as factors."""
        return next(iter(self._graphs.values())).plan if self._graphs else "one by one"

    @property
    def size(self) -> int:
        """Replicates that are best drawn at a time."""
        return max((graph.size for graph in self._graphs.values()), default=1 if self.is_plain else MOST)

    def __call__(self, x: Tensor, seeds: Sequence[int]) -> Drawn:
        """One replicate a seed, on a minibatch (B, ...)."""
        self.left -= len(seeds)
        if self._repeated is not None:
            return self._repeated.repeated(len(seeds))
        graph = self._graph_for(x)
        return self._one_by_one(x, seeds) if graph is None else self._chunked(graph, x, seeds)

    def forget(self) -> None:
        """Begin another minibatch: what had no noise is drawn anew."""
        self._repeated, self._unmoved = None, 0

    def _graph_for(self, x: Tensor) -> Replicates | None:
        if self.is_plain and (self.tier == "off" or len(self._milliseconds) < SINGLE):
            return None
        if x.shape not in self._graphs:
            typical = sorted(self._milliseconds)[len(self._milliseconds) // 2] if self._milliseconds else 0.0
            if self.is_plain and self.tier == "auto" and typical * self.left < WORTH * 1e3:
                return None
            tier = "graph" if self.tier in ("auto", "off") else self.tier
            self._graphs[x.shape] = Replicates(
                self.loss, x, self.parameters.tensors, tier=tier, design=self.design, points=self.points
            )
        return self._graphs[x.shape]

    def _chunked(self, graph: Replicates, x: Tensor, seeds: Sequence[int]) -> Drawn:
        start, found = _now(x), list(graph.draw(list(seeds), x))
        spent = (_now(x) - start) * 1e3 / len(seeds)
        chunks = [_joined(each) for each in zip(*[chunk.gradients for chunk in found], strict=True)]
        values = torch.cat([chunk.values for chunk in found])
        timed = [spent if not self.is_plain else float("nan")] * len(seeds)
        return Drawn(values.double().cpu(), Gradient.of(chunks, self.parameters), timed)

    def _one_by_one(self, x: Tensor, seeds: Sequence[int]) -> Drawn:
        found = [self._single(x, seed) for seed in seeds]
        values, gradients, milliseconds = zip(*found, strict=True)
        self._milliseconds += milliseconds
        chunks = [_together(each) for each in zip(*gradients, strict=True)]
        drawn = Drawn(torch.stack(values).double().cpu(), Gradient.of(chunks, self.parameters), list(milliseconds))
        if self._unmoved >= TIMED:  # nothing was drawn, so all draws are this one
            self._repeated = drawn.repeated(1)
        return drawn

    def _single(self, x: Tensor, seed: int) -> tuple[Tensor, list[Tensor | None], float]:
        """Value, gradients and milliseconds of one step, as training would take it."""
        torch.manual_seed(seed)
        self.loss.program.zero_grad(set_to_none=True)
        state, start = random_state(x), _now(x)
        value = self._step.backward(x)
        spent = (_now(x) - start) * 1e3
        self._unmoved += torch.equal(state, random_state(x))
        return value, [p.grad for p in self.parameters.tensors], spent


MOST = 16
"""Replicates at a time where no graph says how many."""

TIMED = 5
"""Draws of an objective without noise, for its time; the rest are repeated, not computed."""


def _together(gradients: Sequence[Tensor | None]) -> Dense | None:
    """The replicate gradients of one tensor, zero where a replicate has none."""
    there = [gradient for gradient in gradients if gradient is not None]
    if not there:
        return None
    if len(gradients) == 1:
        return Dense(there[0].unsqueeze(0))
    return Dense(torch.stack([torch.zeros_like(there[0]) if each is None else each for each in gradients]))


def _joined(chunks: Sequence[Chunk | None]) -> Chunk | None:
    """Chunks of one tensor after one another; all are of one kind."""
    first = chunks[0]
    if first is None or len(chunks) == 1:
        return first
    if isinstance(first, Dense):
        return Dense(torch.cat([chunk.values for chunk in chunks if isinstance(chunk, Dense)]))
    factors = [chunk for chunk in chunks if isinstance(chunk, Factors)]
    return Factors(torch.cat([chunk.left for chunk in factors]), torch.cat([chunk.right for chunk in factors]))


def random_state(x: Tensor) -> Tensor:
    """From which the draws of a program on x follow."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _now(x: Tensor) -> float:
    """Seconds, once the device is done."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
