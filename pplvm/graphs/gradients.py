"""Value and gradient of a loss as one traced graph, held against the loss itself before it is used."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.graphs.backends import Runner, replay
from pplvm.graphs.state import undone, written_through
from pplvm.graphs.tracing import NotOneGraph, Traced, trace

__all__ = ["GradientGraph", "gradient_graph"]


@dataclass
class GradientGraph:
    """A loss and its gradient for arguments of certain shapes, and what runs it."""

    traced: Traced
    runner: Runner
    held: list[Tensor]  # parameters and buffers, which it reads anew at every call
    learned: list[nn.Parameter]  # those with a gradient, in the order of the outputs after the value

    def __call__(self, args: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """The value, (), and the gradients of `learned`, drawn from torch's stream as the loss would."""
        value, *gradients = self.runner([*self.held, *args, *[draw() for draw in self.traced.noise]])
        return value, gradients


def gradient_graph(loss: nn.Module, args: Sequence[Tensor]) -> GradientGraph:
    """Trace a loss that has run before, and replay the graph; leaves the random state and the buffers as they were.

    Raises:
        NotOneGraph: it cannot be traced, or its graph does not do the same on other data.
    """
    parameters = [p for p in loss.parameters() if p.requires_grad]
    held = [*loss.parameters(), *loss.buffers()]
    learned: list[nn.Parameter] = []

    def value_and_gradients(*args: Tensor) -> list[Tensor]:
        with written_through(loss):
            value = loss(*args)
            found = _gradients(value, parameters)
        learned[:] = [p for p, g in zip(parameters, found, strict=True) if g is not None]
        return [value.detach(), *[g for g in found if g is not None]]

    with undone(loss, args):
        traced = trace(value_and_gradients, held, args)
        runner = replay(traced.graph, [*held, *args, *[draw() for draw in traced.noise]])
    graph = GradientGraph(traced, runner, held, learned)
    _require_agreement(graph, loss, args)
    return graph


def _gradients(value: Tensor, parameters: list[nn.Parameter]) -> Sequence[Tensor | None]:
    if not value.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(value, parameters, allow_unused=True)


def _require_agreement(graph: GradientGraph, loss: nn.Module, args: Sequence[Tensor]) -> None:
    """Hold the graph against the loss on other data and other noise, where what was burnt in shows.

    Raises:
        NotOneGraph: they differ.
    """
    others = [x.flip(0) if x.dim() else x for x in args]
    with undone(loss, args):
        torch.manual_seed(1)
        value, gradients = graph(others)
    with undone(loss, args):
        torch.manual_seed(1)
        exact = loss(*others)
        expected = [exact.detach(), *[g for g in _gradients(exact, graph.learned) if g is not None]]
    size = _norm(expected)
    gap = _norm([a.double() - b.double() for a, b in zip([value, *gradients], expected, strict=True)])
    rounding = max(torch.finfo(each.dtype).eps for each in expected) ** 0.5
    if size.isfinite() and not gap <= rounding * size:
        raise NotOneGraph(
            f"on other data the graph is off by {gap / size:.1g} of value and gradient: it keeps what it computed from "
            "the first (a number that left torch, a state that is no buffer)"
        )


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.double().norm() for each in tensors]).norm()
