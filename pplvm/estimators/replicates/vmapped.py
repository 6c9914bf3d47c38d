"""Many gradients of one loss at fixed parameters: its graph, vmapped over the noise, chunk by chunk."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from pplvm.batch import Batch, as_tuple
from pplvm.estimators.replicates.chunks import Chunk, Dense, Factors
from pplvm.estimators.replicates.designs import PLAIN, Design, DesignError, Independent
from pplvm.estimators.replicates.factors import factored
from pplvm.graphs.backends import Runner, inductor, replay
from pplvm.graphs.gradient_graph import GradientGraph, gradient_graph
from pplvm.graphs.nodes import is_view
from pplvm.graphs.noise import reseed
from pplvm.graphs.tracing import NotOneGraph, operations
from pplvm.graphs.unread_writes import drop_unread_writes
from pplvm.particles.side_effects import buffers_restored, without_side_effects

__all__ = ["Replicated", "Replicates"]

MOST_BYTES = 64 * 2**20
"""Of all a chunk's tensors on the CPU, twice its last-level cache, as not all are there at once: chunks of half as many
took 1.0 to 1.2 times as long."""

ROUNDING = 0.05
"""Share of a gradient by which a chunk's may be off: the draw of a coin whose chance is rounded may fall otherwise."""


@dataclass(frozen=True)
class Replicated:
    """C replicates of one loss and its gradient."""

    values: Tensor  # (C,)
    gradients: list[Chunk | None]  # in the order of the parameters asked for


class Replicates:
    """Draws replicate gradients; that of a seed equals `torch.manual_seed(seed); loss(x).backward()`.

    Arguments:
        loss: a `Loss` that has run, its baselines frozen in eval mode.
        batch: the minibatch (B, ...), or a tuple of it and its conditions, which all replicates share.
        parameters: of whom.
        tier: "graph" or "inductor", or "off" for the loss itself in a plain loop.
        by_factors: whether large weights' gradients are left as factors where that pays.
        chunk: replicates at a time; None fits them into the cache.
        most: replicates that will be asked for at a time, beyond which a chunk is not fitted.
        design: how the noise of a replicate is laid out.

    Example:
        >>> from pplvm.objectives.objective import Loss
        >>> from pplvm.objectives.pathwise import Pathwise
        >>> from pplvm.programs.vae import VAE
        >>> loss, x = Loss(Pathwise(), VAE(8, 2, (5,))), torch.zeros(3, 8)
        >>> replicates = Replicates(loss, x, list(loss.parameters()))
        >>> [len(chunk.values) for chunk in replicates.draw(range(5))]
        [5]
    """

    def __init__(
        self,
        loss: nn.Module,
        batch: Batch,
        parameters: Sequence[Tensor],
        *,
        tier: str = "graph",
        by_factors: bool = True,
        chunk: int | None = None,
        most: int = sys.maxsize,
        design: Design = PLAIN,
    ) -> None:
        self.loss, self.args, self.parameters = loss, as_tuple(batch), list(parameters)
        self.design, self.points = design, design.points
        self._is_compiled = tier == "inductor"
        self._graph: GradientGraph | None = None
        self._chosen: list[bool] = []
        self._runners: dict[int, Runner] = {}  # by the replicates that one takes
        self.size = 1
        self.plan = "one by one"
        if tier != "off":
            self._trace(by_factors, chunk, most)

    def draw(self, seeds: Sequence[int], batch: Batch | None = None) -> Iterator[Replicated]:
        """One replicate for each seed, in chunks.

        Arguments:
            batch: another minibatch of the same shapes.

        Raises:
            DesignError: noise of a design is asked of a loss that is no one graph, or the design does not fit.
        """
        args = self.args if batch is None else as_tuple(batch)
        for start in range(0, len(seeds), self.size):
            yield self._chunk(list(seeds[start : start + self.size]), args)

    def _trace(self, by_factors: bool, chunk: int | None, most: int) -> None:
        try:
            with without_side_effects(self.loss, self.args):
                self.loss(*self.args)
            graph = gradient_graph(self.loss, self.args)
        except NotOneGraph as error:
            self.plan = f"one by one, as it is no one graph: {error}"
            return
        except Exception as error:  # of the graph, or of the loss, which then fails without it too
            self.plan = f"one by one, as its graph fails: {' '.join(str(error).split())}"
            return
        self._graph, self._chosen = graph, [False] * len(graph.learned)
        if drop_unread_writes(graph.traced.graph):  # what is counted in training is no part of a gradient
            graph.runner = replay(graph.traced.graph, graph.inputs(self.args))
        if not graph.traced.is_pure:
            self.plan = "one by one, as not all that it draws or changes is an input of its graph"
            return
        self._module, chosen = factored(graph.traced.graph)
        if not by_factors:
            self._module, chosen = graph.traced.graph, [False] * len(chosen)
        size = chunk or max(1, min(most, _room(self.args[0]) // (_bytes(self._module) * self.points)))
        self.plan = "replayed one by one"
        with without_side_effects(self.loss, self.args):
            if size > 1 and graph.traced.noise and self._vmap(size, chosen):
                factors = f", {sum(chosen)} of {len(chosen)} gradients as factors" if any(chosen) else ""
                self.plan = f"{size} at a time{factors}"
            elif self._is_compiled:
                graph.runner = self._runner_of(graph.traced.graph, graph.inputs(self.args))
        if self._is_compiled:
            self.plan = f"compiled, {self.plan.removeprefix('replayed ')}"

    def _vmap(self, size: int, chosen: list[bool]) -> bool:
        """Try chunks of a size: whether they run and equal single replicates; if so they are used."""
        alone = self._chunk([0], self.args)
        try:
            self.size, self._chosen, self._runners = size, chosen, {size: self._vmapped(size)}
            gap = _distance(self._chunk(list(range(size)), self.args), alone)
            why = "" if not gap > ROUNDING else f"is off by {gap:.1g} of the gradient"
        except Exception as error:  # an operation without a batching rule
            why = f"fails: {str(error).splitlines()[0]}"
        if why:
            self.size, self._chosen, self._runners = 1, [False] * len(chosen), {}
            self.plan = f"replayed one by one, as vmap {why}"
        return not why

    def _chunk(self, seeds: list[int], args: tuple[Tensor, ...]) -> Replicated:
        if self._graph is None:
            return self._eager(seeds[0], args)
        noise = self.design.noise(self._graph.traced.noise, seeds)
        if self.size == 1:
            runs = [self._alone(self._graph, [*args, *[each[n] for each in noise]]) for n in range(self.points)]
            return self._as_asked([torch.stack(each) for each in zip(*runs, strict=True)])
        size = self._holding(len(seeds))
        filled = [_filled(each, size * self.points) for each in noise]
        outputs = self._runners[size]([*self._graph.held(), *args, *filled])
        return self._as_asked([output[: len(seeds) * self.points] for output in outputs])

    def _alone(self, graph: GradientGraph, inputs: list[Tensor]) -> Sequence[Tensor]:
        """One replicate from the present buffers, which its graph may change."""
        with buffers_restored(self.loss):
            return graph.runner([*graph.held(), *inputs])

    def _holding(self, count: int) -> int:
        """The smallest prepared chunk (size, half, quarter, ...) that holds so many."""
        size = self.size
        while size // 2 >= count:
            size //= 2
        if size not in self._runners:
            with without_side_effects(self.loss, self.args):
                self._runners[size] = self._vmapped(size)
        return size

    def _as_asked(self, outputs: Sequence[Tensor]) -> Replicated:
        """The graph's outputs, each (C x points, ...), by parameter and averaged over points."""
        assert self._graph is not None
        value, *rest = outputs
        given, found = iter(rest), dict[int, Chunk]()
        for parameter, is_factored in zip(self._graph.parameters, self._chosen, strict=True):
            if is_factored:
                left, right = self._stacked(next(given)), self._stacked(next(given))
                found[id(parameter)] = Factors(left if self.points == 1 else left / self.points, right)
            else:
                found[id(parameter)] = Dense(self._mean(next(given)))
        return Replicated(self._mean(value), [found.get(id(parameter)) for parameter in self.parameters])

    def _mean(self, each: Tensor) -> Tensor:
        return each if self.points == 1 else each.unflatten(0, (-1, self.points)).mean(1)

    def _stacked(self, each: Tensor) -> Tensor:
        """Factors of one replicate's points stacked, (C, points x R, ...)."""
        return each if self.points == 1 else each.unflatten(0, (-1, self.points)).flatten(1, 2)

    def _vmapped(self, size: int) -> Runner:
        """The flat graph of vmap for so many replicates; shared parts are computed once."""
        assert self._graph is not None
        given, rows = [*self._graph.held(), *self.args], size * self.points
        noise = Independent(self.points).noise(self._graph.traced.noise, range(size))
        late, end = _late(self._module), next(node for node in self._module.graph.nodes if node.op == "output")
        dims = tuple(0 if output in late else None for output in end.args[0])
        in_dims = (*[None] * len(given), *[0] * len(noise))
        over = torch.func.vmap(lambda *inputs: tuple(self._module(*inputs)), in_dims, dims)
        with torch.no_grad():
            graph = operations(lambda *inputs: list(over(*inputs)), [*given, *noise], BROADCAST)
        run = self._runner_of(graph, [*given, *noise])
        return lambda inputs: [
            output if dim == 0 else output.expand(rows, *output.shape)
            for output, dim in zip(run(inputs), dims, strict=True)
        ]

    def _runner_of(self, graph: GraphModule, inputs: list[Tensor]) -> Runner:
        """The graph compiled, if asked for and possible."""
        if self._is_compiled:
            try:
                return inductor(graph, inputs)
            except Exception:  # no compiler, say: the replayed graph gives the same
                self._is_compiled = False
        return replay(graph, inputs)

    def _eager(self, seed: int, args: tuple[Tensor, ...]) -> Replicated:
        if not self.design.is_plain:
            raise DesignError(f"{self.design} needs a loss that is one graph; {self.plan}")
        reseed(seed)
        with buffers_restored(self.loss):
            value = self.loss(*args)
            found = [None] * len(self.parameters)
            if value.requires_grad:
                found = torch.autograd.grad(value, self.parameters, allow_unused=True)
        return Replicated(
            value.detach().unsqueeze(0), [None if each is None else Dense(each.unsqueeze(0)) for each in found]
        )


BROADCAST = {torch.ops.aten.log_sigmoid_backward.default: lambda grad, x, buffer: grad * torch.sigmoid(-x)}
"""An operation that vmap calls with an unrepeated gradient, upon which torch warns of the result's size."""


def _room(x: Tensor) -> int:
    """The bytes that a chunk may take."""
    return torch.cuda.mem_get_info(x.device)[0] // 4 if x.is_cuda else MOST_BYTES


def _bytes(graph: GraphModule) -> int:
    """The bytes of all that one replicate computes from its noise."""
    values = [node.meta.get("val") for node in _late(graph) if not is_view(node)]
    return max(sum(value.nbytes for value in values if isinstance(value, Tensor)), 1)


def _late(graph: GraphModule) -> set[Node]:
    """The noise, and what is computed from it."""
    late = set[Node]()
    for node in graph.graph.nodes:
        is_noise = node.op == "placeholder" and str(node.target).startswith("noise")
        if is_noise or (node.op == "call_function" and not late.isdisjoint(node.all_input_nodes)):
            late.add(node)
    return late


def _filled(noise: Tensor, rows: int) -> Tensor:
    """Pad noise by its last row to the size of a chunk."""
    missing = rows - len(noise)
    return torch.cat([noise, noise[-1:].expand(missing, *noise.shape[1:])]) if missing else noise


def _distance(found: Replicated, expected: Replicated) -> float:
    """The relative distance between the first gradients."""
    pairs = [
        (a, b) for a, b in zip(found.gradients, expected.gradients, strict=True) if a is not None and b is not None
    ]
    gaps = [(a.repeated(1).dense().flat - b.flat).double().norm() for a, b in pairs]
    lengths = [b.flat.double().norm() for _, b in pairs]
    return float(torch.stack(gaps).norm() / torch.stack(lengths).norm().clamp(min=1e-30)) if pairs else 0.0
