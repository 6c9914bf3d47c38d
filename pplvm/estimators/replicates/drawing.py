"""How the replicates of one estimator are drawn: one by one, or in chunks through its graph where that pays."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pplvm.estimators.cost.timing import now
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.chunks import Chunk, Dense, Factors
from pplvm.estimators.replicates.designs import Design
from pplvm.estimators.replicates.vmapped import Replicates
from pplvm.estimators.statistics.measurement import Drawn
from pplvm.estimators.statistics.streams import Gradient
from pplvm.graphs.compiled import Compiled, Tier
from pplvm.graphs.noise import reseed
from pplvm.objectives.objective import Loss
from pplvm.particles.side_effects import buffers_kept, cuda_devices

__all__ = ["Drawing", "joined", "noise_in_words", "random_state", "random_state_kept"]

SINGLE = 20
"""Replicates that are drawn one by one, so that a step's time is known."""

AGAIN = 6
"""As many on each further minibatch, so that it is known how the machine was through the whole run."""

WORTH = 3.0
"""Seconds of replicates still to come for which a graph is made, twice what that takes at most."""


class Drawing:
    """Draws replicates of one estimator at the parameters as they stand; each is that of its seed, up to rounding.

    Arguments:
        loss: the estimator, tied to the program.
        parameters: of whom gradients are wanted.
        replicates: how many there will be of one minibatch.
        minibatches: how many there will be of those.
        tier: "off" draws one by one, "graph" and "inductor" through a graph, "auto" through one where that pays.
        design, points: how a replicate's noise is laid out, see `pplvm.estimators.replicates.designs`.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Parameters,
        replicates: int,
        minibatches: int = 1,
        tier: Tier = "auto",
        design: Design = "independent",
        points: int = 1,
    ) -> None:
        self.loss, self.parameters, self.tier = loss, parameters, tier
        self.most, self.left, self.whole = replicates, replicates * minibatches, replicates * minibatches
        self.design, self.points, self.is_plain = design, points, design == "independent" and points == 1
        self._step = Compiled(loss, "off" if tier == "auto" else tier, tell=lambda words: None)
        self._graphs: dict[tuple[torch.Size, torch.dtype], Replicates] = {}
        self._milliseconds: list[float] = []
        self._singly = SINGLE
        self._repeated: Drawn | None = None  # of an objective without noise
        self._unmoved = 0  # draws in a row that moved no random state and gave one value
        self._last: float | None = None
        self.seconds_each, self.seconds_ahead = 0.0, 0.0  # of one replicate, of all; known once one was tried out

    @property
    def plan(self) -> str:
        """In words: one by one, or how many at a time and which gradients as factors."""
        return next(iter(self._graphs.values())).plan if self._graphs else "one by one"

    @property
    def is_noiseless(self) -> bool:
        """Whether nothing is drawn, so that all replicates are the last one."""
        return self._repeated is not None

    @property
    def is_timed(self) -> bool:
        """Whether the next replicate is drawn by itself, so that a step's time is known."""
        return self.is_plain and self._repeated is None and len(self._milliseconds) < SINGLE

    @property
    def singly(self) -> int:
        """How many of the next replicates are drawn one by one to be timed, whatever pays."""
        return self._singly if self.is_plain and self._repeated is None else 0

    def is_chunked(self, x: Tensor) -> bool:
        """Whether the next replicates come from a graph, several at a time, or are not drawn at all."""
        return self._repeated is not None or self._graph_for(x) is not None

    @property
    def size(self) -> int:
        """Replicates that are best taken in at a time."""
        if self.is_plain and self.tier == "off":
            return 1
        return SINGLE if self.is_timed else max((graph.size for graph in self._graphs.values()), default=MOST)

    def __call__(self, x: Tensor, seeds: Sequence[int]) -> Drawn:
        """One replicate a seed, on a minibatch (B, ...)."""
        self.left -= len(seeds)
        if self._repeated is not None:
            return self._repeated.repeated(len(seeds))
        graph = self._graph_for(x)
        return self._one_by_one(x, seeds) if graph is None else self._chunked(graph, x, seeds)

    def try_out(self, x: Tensor, seed: int) -> Drawn:
        """One replicate that does not count, in the way in which they will be drawn; the random state is kept.

        It is drawn twice: the first time of an estimator is not that of the next ones, which `seconds_ahead` adds up.
        """
        with torch.random.fork_rng(cuda_devices([x])):
            if not self.is_plain:
                graph = self._graph_for(x)
                assert graph is not None
            draw = (lambda: self._single(x, seed)) if self.is_plain else (lambda: self._chunked(graph, x, [seed]))
            first, began = draw(), now(x)[0]
            draw()
            is_noiseless = self._unmoved == 2 and self.most > TIMED
            self.seconds_each = now(x)[0] - began
            self.seconds_ahead = self.seconds_each * self.left * (TIMED / self.most if is_noiseless else 1.0)
            if self.is_plain:
                self.forget()
            return first

    def forget(self) -> None:
        """Begin another minibatch: what had no noise is drawn anew."""
        self._repeated, self._unmoved, self._last = None, 0, None
        self._singly = SINGLE if self.left == self.whole else AGAIN

    def _graph_for(self, x: Tensor) -> Replicates | None:
        if self.is_plain and (self.tier == "off" or self._singly > 0):
            return None
        kind = x.shape, x.dtype
        if kind not in self._graphs:
            typical = sorted(self._milliseconds)[len(self._milliseconds) // 2] if self._milliseconds else 0.0
            if self.is_plain and self.tier == "auto" and typical * self.left < WORTH * 1e3:
                return None
            tier = "graph" if self.tier in ("auto", "off") else self.tier
            options = {"most": self.most, "design": self.design, "points": self.points}
            self._graphs[kind] = Replicates(self.loss, x, self.parameters.tensors, tier=tier, **options)
        return self._graphs[kind]

    def _chunked(self, graph: Replicates, x: Tensor, seeds: Sequence[int]) -> Drawn:
        parts = []
        for start in range(0, len(seeds), graph.size):
            own = list(seeds[start : start + graph.size])
            began, _ = now(x)
            (found,) = graph.draw(own, x)
            spent = math.nan if self.is_plain else (now(x)[0] - began) * 1e3 / len(own)
            gradient = Gradient.of(found.gradients, self.parameters)
            parts.append(Drawn(found.values.double().cpu(), gradient, [spent] * len(own)))
        return joined(parts)

    def _one_by_one(self, x: Tensor, seeds: Sequence[int]) -> Drawn:
        drawn = joined([self._single(x, seed) for seed in seeds])
        self._milliseconds += drawn.milliseconds
        self._singly -= len(seeds)
        if self._unmoved >= TIMED:  # nothing was drawn, so all draws are this one
            self._repeated = drawn.repeated(1)
        return drawn

    def _single(self, x: Tensor, seed: int) -> Drawn:
        """One step, as training would take it."""
        reseed(seed)
        self.loss.program.zero_grad(set_to_none=True)
        with buffers_kept(self.loss):  # each replicate begins where the program stands
            state, (start, cpu_start) = random_state(x), now(x)
            value = self._step.backward(x)
            end, cpu_end = now(x)
        is_same = torch.equal(state, random_state(x)) and self._last in (None, float(value))  # or it has its own noise
        self._unmoved, self._last = self._unmoved + 1 if is_same else 0, float(value)
        chunks = [None if p.grad is None else Dense(p.grad.unsqueeze(0)) for p in self.parameters.tensors]
        spent, cpu_spent = [(end - start) * 1e3], [(cpu_end - cpu_start) * 1e3]
        return Drawn(value.double().cpu().reshape(1), Gradient.of(chunks, self.parameters), spent, cpu_spent)


MOST = 16
"""Replicates at a time where no graph says how many."""

TIMED = 5
"""Draws of an objective without noise, for its time; the rest are repeated, not computed."""


def joined(parts: Sequence[Drawn]) -> Drawn:
    """Replicates of one estimator after one another."""
    if len(parts) == 1:
        return parts[0]
    chunks = [_after_one_another(each) for each in zip(*[part.gradient.chunks for part in parts], strict=True)]
    squares = torch.cat([part.gradient.squares for part in parts])
    milliseconds = [each for part in parts for each in part.milliseconds]
    cpu = [each for part in parts for each in part.cpu_milliseconds or [math.nan] * len(part.milliseconds)]
    return Drawn(torch.cat([part.losses for part in parts]), Gradient(chunks, squares), milliseconds, cpu)


def _after_one_another(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of one tensor, all factors or all dense."""
    factors = [chunk for chunk in chunks if isinstance(chunk, Factors)]
    if len(factors) == len(chunks):
        left, inputs = torch.cat([chunk.left for chunk in factors]), [chunk.inputs for chunk in factors]
        is_shared = all(len(each) == 1 for each in inputs)
        right = inputs[0].expand(len(left), -1, -1) if is_shared else torch.cat([chunk.right for chunk in factors])
        return Factors(left, right)
    return Dense(torch.cat([chunk.dense().values for chunk in chunks]))


def noise_in_words(drawing: Drawing, is_own: bool) -> str:
    """How the noise of replicates is laid out, and whether each estimator has its own."""
    points = "" if drawing.is_plain else f", {drawing.points} points a gradient"
    return f"{drawing.design}{points}, {'each estimator its own' if is_own else 'common to all estimators'}"


def random_state(x: Tensor) -> Tensor:
    """From which the draws of a program on x follow."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def random_state_kept(steps: Iterator[int]) -> Iterator[int]:
    """The same steps, after which the CPU's random state is as it was before them."""
    state = torch.get_rng_state()
    try:
        yield from steps
    finally:
        torch.set_rng_state(state)
