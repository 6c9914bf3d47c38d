"""Value and gradient of a loss as one traced graph, compared with the loss itself before use."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.graphs.backends import Runner, replay
from pplvm.graphs.module_state import ModuleState, buffers_of, in_place_buffers
from pplvm.graphs.tracing import NotOneGraph, Traced, trace
from pplvm.particles.side_effects import without_side_effects

__all__ = ["GradientGraph", "gradient_graph"]


@dataclass
class GradientGraph:
    """A graph of a loss and its gradient for arguments of given shapes, and its runner."""

    traced: Traced
    runner: Runner
    held: ModuleState
    learned: list[int]  # which of the held have a gradient, in the order of the outputs after the value

    def __call__(self, args: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """The value, (), and the gradients of `parameters`, drawn from torch's stream as the loss would."""
        value, *gradients = self.runner(self.inputs(args))
        return value, gradients

    def inputs(self, args: Sequence[Tensor]) -> list[Tensor]:
        """All inputs of the graph: parameters and buffers, args, fresh noise."""
        return [*self.held(), *args, *[draw() for draw in self.traced.noise]]

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters that gradients are taken by."""
        held = self.held()
        return [held[i] for i in self.learned]


def gradient_graph(loss: nn.Module, args: Sequence[Tensor]) -> GradientGraph:
    """Trace a loss that has run before, to be replayed; random state and buffers are restored.

    Raises:
        NotOneGraph: it cannot be traced, or its graph does not do the same on other data.
    """
    held, learned = ModuleState(loss), list[int]()
    learning = {i: tensor for i, tensor in enumerate(held()) if tensor.requires_grad}

    def value_and_gradients(*args: Tensor) -> list[Tensor]:
        with in_place_buffers(loss):
            value = loss(*args)
            found = _gradients(value, list(learning.values()))
        learned[:] = [i for i, gradient in zip(learning, found, strict=True) if gradient is not None]
        return [value.detach(), *[gradient for gradient in found if gradient is not None]]

    with without_side_effects(loss, args):
        traced = trace(value_and_gradients, held(), args)
        graph = GradientGraph(traced, lambda inputs: [], held, learned)
        graph.runner = replay(traced.graph, graph.inputs(args))
    _require_agreement(graph, loss, args)
    return graph


def _gradients(value: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return torch.autograd.grad(value, parameters, allow_unused=True)


def _require_agreement(graph: GradientGraph, loss: nn.Module, args: Sequence[Tensor]) -> None:
    """Compare the graph with the loss on other data and noise, which reveals values fixed at tracing.

    Raises:
        NotOneGraph: they differ, or the graph cannot be run where the loss can.
    """
    others = [x.flip(0) if x.dim() else x for x in args]
    with without_side_effects(loss, others):
        torch.manual_seed(1)
        try:
            value, gradients = graph(others)
        except Exception as error:
            raise NotOneGraph(f"its graph cannot be replayed: {' '.join(str(error).split())}") from error
        left = buffers_of(loss)
    with without_side_effects(loss, others):
        torch.manual_seed(1)
        exact = loss(*others)
        expected = [exact.detach(), *[g for g in _gradients(exact, graph.parameters) if g is not None]]
        left_by_it = buffers_of(loss)
    if len(left) != len(left_by_it) or any(not _agree([a], [b]) for a, b in zip(left, left_by_it, strict=True)):
        raise NotOneGraph("on other data the graph leaves other numbers in the buffers than the loss does")
    if not _agree([value, *gradients], expected):
        gap = _gap([value, *gradients], expected) / _norm(expected)
        raise NotOneGraph(
            f"on other data the graph is off by {gap:.1g} of value and gradient: it keeps what it computed from "
            "the first (a number that left torch, a state that is no buffer)"
        )


def _agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether two results agree up to rounding, or there is nothing to compare."""
    floating = [each.dtype for each in expected if each.is_floating_point()]
    rounding = max([torch.finfo(each).eps for each in floating], default=0.0) ** 0.5
    size = _norm(expected)
    return not size.isfinite() or bool(_gap(found, expected) <= rounding * size)


def _gap(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Tensor:
    return _norm([a.double() - b.double() for a, b in zip(found, expected, strict=True)])


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.double().norm() for each in tensors]).norm()
