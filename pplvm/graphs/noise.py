"""Randomness as an input: the draws of a traced graph become inputs, made in program order.

What a graph draws from constants alone becomes an input; what it draws from tensors becomes a function of one:

    Normal(m, s)     m + s e                  e standard normal
    Bernoulli(p)     1 where u < p            u uniform
    Categorical(p)   argmax p_i / r_i         r_i standard exponential

On the CPU these are torch's own samplers, so the stream from a seed stays the same bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from pplvm.graphs.nodes import is_impure, is_random

__all__ = ["Draw", "lift_noise", "reseed"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Draw:
    """One draw of a traced program: "normal", "uniform", "exponential" or "other", and how it is made."""

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    scale: tuple[float, float] = (0.0, 1.0)  # mean and deviation, or ends, or (0, 1 / rate)
    make: Callable[[], Tensor] | None = field(default=None, repr=False)  # of the kind "other"

    def __call__(self) -> Tensor:
        """A tensor of this shape from torch's stream, as the program itself would draw it."""
        if self.make is not None:
            return self.make()
        drawn = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        if self.kind == "normal":
            return drawn.normal_(*self.scale)
        if self.kind == "uniform":
            return drawn.uniform_(*self.scale)
        return drawn.exponential_(1 / self.scale[1])


def reseed(seed: int) -> None:
    """As `torch.manual_seed`, but a hundred times faster as long as no program has used CUDA."""
    if torch.cuda.is_initialized():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def lift_noise(graph: GraphModule) -> tuple[Draw, ...]:
    """Turn a graph's draws into its last inputs, in program order.

    A draw that no constants make (a gamma's, say) stays where it is, and so do all that come after it: drawn ahead of
    it they would move the stream.

    Arguments:
        graph: of `make_fx`, whose nodes know the shapes of what they gave; changed in place.
    """
    found: list[Draw] = []
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    for node in [node for node in graph.graph.nodes if is_random(node)]:
        draw = _draw_of(node)
        if draw is None:
            break
        with graph.graph.inserting_after(last):
            last = graph.graph.placeholder(f"noise_{len(found)}")
        with graph.graph.inserting_before(node):
            value = _as_drawn(graph.graph, node, last)
        if value is not last:
            value.meta = dict(node.meta)
        node.replace_all_uses_with(value)
        graph.graph.erase_node(node)
        found.append(draw)
    graph.graph.eliminate_dead_code(is_impure)
    graph.recompile()
    return tuple(found)


def _draw_of(node: Node) -> Draw | None:
    """How the noise of a random node is made; None if it must be drawn within the graph."""
    op, args, like = node.target, node.args, _like(node)
    packet = getattr(op, "overloadpacket", None)
    if packet in (aten.randn, aten.randn_like) or op in NORMALS_OF_TENSORS:
        return Draw("normal", *like)
    if packet in (aten.rand, aten.rand_like) or op is aten.bernoulli.default:
        return Draw("uniform", *like)
    if packet is aten.normal_:
        return Draw("normal", *like, scale=_numbers(args[1:], (0.0, 1.0)))
    if packet is aten.uniform_:
        return Draw("uniform", *like, scale=_numbers(args[1:], (0.0, 1.0)))
    if packet is aten.exponential_:
        return Draw("exponential", *like, scale=(0.0, 1 / _numbers(args[1:], (1.0,))[0]))
    if op is aten.multinomial.default and args[1] == 1:
        return Draw("exponential", *_like(node.all_input_nodes[0]))
    if op in FROM_SHAPE or op in FROM_EMPTY:
        return Draw("other", *like, make=_maker(node))
    return None


NORMALS_OF_TENSORS = (aten.normal.Tensor_Tensor, aten.normal.Tensor_float, aten.normal.float_Tensor)

FROM_SHAPE = (aten.randperm.default, aten.randint.default, aten.randint.low)
"""Draws whose arguments are all numbers."""

FROM_EMPTY = (
    aten.bernoulli_.float,
    aten.bernoulli.p,
    aten.random_.default,
    aten.random_.to,
    getattr(aten.random_, "from"),
    aten.geometric_.default,
    aten.cauchy_.default,
    aten.log_normal_.default,
)
"""Draws into a tensor of which only the shape matters."""


def _as_drawn(graph: Graph, node: Node, noise: Node) -> Node:
    """The result of a random node as a function of its noise."""
    op, args = node.target, node.args
    if op in NORMALS_OF_TENSORS:
        mean, std = args[:2]
        return graph.call_function(aten.add.Tensor, (graph.call_function(aten.mul.Tensor, (noise, std)), mean))
    if op is aten.bernoulli.default:
        below = graph.call_function(aten.lt.Tensor, (noise, args[0]))
        return graph.call_function(aten._to_copy.default, (below,), {"dtype": _like(node)[1]})
    if op is aten.multinomial.default:
        ratio = graph.call_function(aten.div.Tensor, (args[0], noise))
        return graph.call_function(aten.argmax.default, (ratio, -1, True))
    return noise


def _like(node: Node) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
    """Shape, dtype and device of a node's result."""
    given: Tensor = node.meta["val"]
    return tuple(given.shape), given.dtype, given.device


def _numbers(given: tuple, default: tuple[float, ...]) -> tuple[Any, ...]:
    return (*given, *default[len(given) :])


def _maker(node: Node) -> Callable[[], Tensor]:
    op: Any = node.target
    args, kwargs = node.args, dict(node.kwargs)
    if op in FROM_SHAPE:
        return lambda: op(*args, **kwargs)
    shape, dtype, device = _like(node)
    return lambda: op(torch.empty(shape, dtype=dtype, device=device), *args[1:], **kwargs)
