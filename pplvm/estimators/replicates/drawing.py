"""Draws the replicates of one estimator: one by one, or in chunks through its graph where that is faster."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pplvm.batch import Batch, as_tuple
from pplvm.estimators.cost.timing import now
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.chunks import Dense
from pplvm.estimators.replicates.designs import PLAIN, Design
from pplvm.estimators.replicates.gradient import Drawn, Gradient, joined
from pplvm.estimators.replicates.vmapped import Replicates
from pplvm.graphs.compiled import Compiled, Tier
from pplvm.graphs.noise import reseed
from pplvm.objectives.objective import Loss
from pplvm.particles.side_effects import buffers_restored, cuda_devices

__all__ = ["Drawing", "random_state", "random_state_kept"]

SINGLE = 20
"""Replicates that are drawn one by one, so that a step's time is known."""

AGAIN = 6
"""As many on each further minibatch, so that it is known how the machine was through the whole run."""

WORTH = 3.0
"""Seconds of replicates still to come for which a graph is made, twice what that takes at most."""


class Drawing:
    """Draws replicates of one estimator at the present parameters; a seed fixes each, up to rounding.

    Arguments:
        loss: the estimator, tied to the program.
        parameters: of whom gradients are wanted.
        replicates: how many there will be of one minibatch.
        minibatches: how many there will be of those.
        tier: "off" draws one by one, "graph" and "inductor" through a graph, "auto" through one where that pays.
        design: how a replicate's noise is laid out.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Parameters,
        replicates: int,
        minibatches: int = 1,
        tier: Tier = "auto",
        design: Design = PLAIN,
    ) -> None:
        self.loss, self.parameters, self.tier = loss, parameters, tier
        self.most, self.left, self.whole = replicates, replicates * minibatches, replicates * minibatches
        self.design, self.is_plain = design, design.is_plain
        self._step = Compiled(loss, "off" if tier == "auto" else tier, tell=lambda words: None)
        self._graphs: dict[tuple[tuple[torch.Size, torch.dtype], ...], Replicates] = {}
        self._milliseconds: list[float] = []
        self._singly = SINGLE
        self._repeated: Drawn | None = None  # of an objective without noise
        self._unmoved = 0  # draws in a row that moved no random state and gave one value
        self._last: float | None = None
        self.seconds_each, self.seconds_ahead = 0.0, 0.0  # of one replicate, of all; known once one was tried out

    @property
    def plan(self) -> str:
        """How replicates are drawn, in words: one by one, or in chunks and with which factors."""
        return next(iter(self._graphs.values())).plan if self._graphs else "one by one"

    @property
    def is_noiseless(self) -> bool:
        """Whether nothing is random, so that all replicates are equal."""
        return self._repeated is not None

    @property
    def is_timed(self) -> bool:
        """Whether the next replicate is drawn alone to time a step."""
        return self.is_plain and self._repeated is None and len(self._milliseconds) < SINGLE

    @property
    def singly(self) -> int:
        """The number of next replicates that are drawn one by one for timing."""
        return self._singly if self.is_plain and self._repeated is None else 0

    def is_chunked(self, batch: Batch) -> bool:
        """Whether the next replicates come from a graph in chunks, or need no draw."""
        return self._repeated is not None or self._graph_for(as_tuple(batch)) is not None

    @property
    def size(self) -> int:
        """The best number of replicates to draw at a time."""
        if self.is_plain and self.tier == "off":
            return 1
        return SINGLE if self.is_timed else max((graph.size for graph in self._graphs.values()), default=MOST)

    def __call__(self, batch: Batch, seeds: Sequence[int]) -> Drawn:
        """One replicate a seed, on a minibatch (B, ...) and its conditions."""
        args = as_tuple(batch)
        self.left -= len(seeds)
        if self._repeated is not None:
            return self._repeated.repeated(len(seeds))
        graph = self._graph_for(args)
        return self._one_by_one(args, seeds) if graph is None else self._chunked(graph, args, seeds)

    def try_out(self, batch: Batch, seed: int) -> Drawn:
        """Draw one trial replicate; the random state is restored.

        It is drawn twice: the first time of an estimator is not that of the next ones, which `seconds_ahead` adds up.
        """
        args = as_tuple(batch)
        with torch.random.fork_rng(cuda_devices(args)):
            if not self.is_plain:
                graph = self._graph_for(args)
                assert graph is not None
            draw = (lambda: self._single(args, seed)) if self.is_plain else (lambda: self._chunked(graph, args, [seed]))
            first, began = draw(), now(args[0])[0]
            draw()
            is_noiseless = self._unmoved == 2 and self.most > TIMED
            self.seconds_each = now(args[0])[0] - began
            self.seconds_ahead = self.seconds_each * self.left * (TIMED / self.most if is_noiseless else 1.0)
            if self.is_plain:
                self.forget()
            return first

    def forget(self) -> None:
        """Begin another minibatch: noiseless replicates are drawn anew."""
        self._repeated, self._unmoved, self._last = None, 0, None
        self._singly = SINGLE if self.left == self.whole else AGAIN

    def _graph_for(self, args: tuple[Tensor, ...]) -> Replicates | None:
        if self.is_plain and (self.tier == "off" or self._singly > 0):
            return None
        kind = tuple((part.shape, part.dtype) for part in args)
        if kind not in self._graphs:
            typical = sorted(self._milliseconds)[len(self._milliseconds) // 2] if self._milliseconds else 0.0
            if self.is_plain and self.tier == "auto" and typical * self.left < WORTH * 1e3:
                return None
            tier = "graph" if self.tier in ("auto", "off") else self.tier
            self._graphs[kind] = Replicates(
                self.loss, args, self.parameters.tensors, tier=tier, most=self.most, design=self.design
            )
        return self._graphs[kind]

    def _chunked(self, graph: Replicates, args: tuple[Tensor, ...], seeds: Sequence[int]) -> Drawn:
        parts = []
        for start in range(0, len(seeds), graph.size):
            own = list(seeds[start : start + graph.size])
            began, _ = now(args[0])
            (found,) = graph.draw(own, args)
            spent = math.nan if self.is_plain else (now(args[0])[0] - began) * 1e3 / len(own)
            gradient = Gradient.of(found.gradients, self.parameters)
            parts.append(Drawn(found.values.double().cpu(), gradient, [spent] * len(own)))
        return joined(parts)

    def _one_by_one(self, args: tuple[Tensor, ...], seeds: Sequence[int]) -> Drawn:
        drawn = joined([self._single(args, seed) for seed in seeds])
        self._milliseconds += drawn.milliseconds
        self._singly -= len(seeds)
        if self._unmoved >= TIMED:  # nothing was drawn, so all draws are this one
            self._repeated = drawn.repeated(1)
        return drawn

    def _single(self, args: tuple[Tensor, ...], seed: int) -> Drawn:
        """One step as in training."""
        x = args[0]
        reseed(seed)
        self.loss.program.zero_grad(set_to_none=True)
        with buffers_restored(self.loss):  # each replicate begins where the program stands
            state, (start, cpu_start) = random_state(x), now(x)
            value = self._step.backward(*args)
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


def random_state(x: Tensor) -> Tensor:
    """The random state that a program's draws on x depend on."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def random_state_kept(steps: Iterator[int]) -> Iterator[int]:
    """The same steps, after which the CPU's random state is restored."""
    state = torch.get_rng_state()
    try:
        yield from steps
    finally:
        torch.set_rng_state(state)
