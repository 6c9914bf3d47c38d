"""A loss that runs eagerly, as a replayed graph, or as a graph compiled by Inductor.

The tiers draw the same noise from the same seed and give the same value and gradients, up to rounding.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pplvm.graphs.backends import inductor
from pplvm.graphs.break_even import BreakEven
from pplvm.graphs.gradient_graph import GradientGraph, gradient_graph
from pplvm.graphs.interruptible import Interrupted, interruptible
from pplvm.graphs.module_state import ModuleState
from pplvm.graphs.tracing import NotOneGraph
from pplvm.particles.python_state import PythonState
from pplvm.particles.side_effects import without_side_effects

__all__ = ["Compiled", "Tier", "compiled"]

Tier = Literal["auto", "off", "graph", "inductor"]

TIERS = ("auto", "off", "graph", "inductor")

MOST_GRAPHS = 16
"""Graphs kept, one for each combination of shapes, modes and settings."""

FEW = 100
"""Steps that are over before a graph has paid for its making."""


def compiled(loss: nn.Module, tier: Tier = "auto", steps: int | None = None) -> "Compiled":
    """A loss with the same values, gradients and random numbers, run as one graph.

    What cannot be traced falls back one tier, with one warning that names the place and the cause: Python that decides
    by a tensor's values, state that is neither parameter nor buffer. Shapes, modes (train, eval), numbers kept on
    modules and autocast may change; each new combination is one more graph.

    Arguments:
        loss: a `Loss`, or any module that maps tensors to a scalar ().
        tier: "off" runs the loss as it is; "graph" replays its traced graph (built in well under a second, no
            compiler needed); "inductor" compiles the graph (half a minute at first, seconds from torch's disk cache);
            "auto" replays, and compiles where that pays.
        steps: how many calls are planned, by which "auto" decides once, and makes no graph for less than 100; if None,
            it compiles as soon as the replayed steps have cost what the compiler would.

    Raises:
        ValueError: the tier has another name.

    Example:
        >>> from pplvm.objectives.objective import Loss
        >>> from pplvm.objectives.pathwise import Pathwise
        >>> from pplvm.programs.vae import VAE
        >>> loss = Loss(Pathwise(), VAE(data_size=8, latent_size=2, hidden_sizes=(5,)))
        >>> step = compiled(loss, "graph")
        >>> step(torch.zeros(3, 8)).backward()
        >>> step.tier_now
        'graph'
    """
    return Compiled(loss, tier, steps)


class Compiled(nn.Module):
    """The module that `compiled` returns: called as the loss, or `backward` for value and gradients, the faster way."""

    def __init__(
        self,
        loss: nn.Module,
        tier: Tier = "auto",
        steps: int | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        if tier not in TIERS:
            raise ValueError(f"compiled: tier must be one of {', '.join(map(repr, TIERS))}, got {tier!r}")
        self.loss, self.tier, self.steps, self._tell = loss, tier, steps, tell or _warn
        self.tier_now: Tier = "off"
        self.training = loss.training
        self._runs: dict[tuple[Any, ...], _Run | None] = {}
        self._seen: list[_GraphKeys] = []  # all of them, that what they keep stays what it is
        self._told: set[str] = set()
        self._is_short = tier == "auto" and steps is not None and steps < FEW
        self._may_compile = tier in ("auto", "inductor")

    def __getstate__(self) -> dict[str, Any]:
        """Without graphs, which a copy makes for its own parameters."""
        return {**vars(self), "_runs": {}, "_seen": []}

    def forward(self, *args: Tensor) -> Tensor:
        """The loss, (), differentiable once by its parameters."""
        if (run := self._run_for(args)) is None:
            return self.loss(*args)
        value, gradients = run(args)
        return _PrecomputedGradients.apply(value, gradients, *run.graph.parameters)  # type: ignore[no-any-return]

    def backward(self, *args: Tensor) -> Tensor:
        """The loss, (), detached; its gradients are added to `.grad`."""
        if (run := self._run_for(args)) is None:
            value = self.loss(*args)
            value.backward()
            return value.detach()
        value, gradients = run(args)
        for parameter, gradient in zip(run.graph.parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = _laid_out_as(parameter, gradient)
            else:
                parameter.grad.add_(gradient)
        return value

    def _run_for(self, args: Sequence[Tensor]) -> "_Run | None":
        """The graph for these arguments, traced if need be; None where the loss runs eagerly."""
        if self.tier == "off" or self._is_short or not torch.is_grad_enabled() or any(x.requires_grad for x in args):
            return None
        if any(type(each) is not TraceMessenger for each in _PYRO_STACK):  # a user's handlers, which a graph passes by
            return None
        if not self._seen:
            with without_side_effects(self.loss, args):  # what is made or found on a first batch exists from then on
                self.loss(*args)
            self._seen.append(_GraphKeys(self.loss))
        key = self._seen[-1].key(args)
        if key not in self._runs and len(self._runs) >= MOST_GRAPHS:
            self._tell_once(self._too_many(self._seen[-1]))
            return None
        if key not in self._runs:
            self._seen.append(_GraphKeys(self.loss))  # what changed may hold what has not been watched
            key = self._seen[-1].key(args)
        if key not in self._runs:
            self._runs[key] = self._built(args, self._seen[-1])
        run = self._runs[key]
        if run is not None and self.tier == "auto" and self._may_compile and run.pays(self.steps):
            self._compile(run, args)
        self.tier_now = "off" if run is None else run.tier
        return run

    def _built(self, args: Sequence[Tensor], seen: "_GraphKeys") -> "_Run | None":
        try:
            if any(map(_has_hooks, seen.held())):
                raise NotOneGraph("a parameter has a hook of its own (register_hook)")
            before = seen.watch.values()
            with without_side_effects(self.loss, args):
                self.loss(*args)
            if (after := seen.watch.values()) != before:
                name = seen.watch.changed(before, after)
                raise NotOneGraph(f"{name} changes from call to call and is no buffer: register it as one")
            run = _Run(gradient_graph(self.loss, args), _cast(args) is not None)
        except NotOneGraph as error:
            self._tell_once(f"{_loss_name(self.loss)} is not one graph and runs eagerly: {error}")
            return None
        if self.tier == "inductor":
            self._compile(run, args)
        return run

    def _compile(self, run: "_Run", args: Sequence[Tensor]) -> None:
        if not self._may_compile:
            return
        try:
            with interruptible(), without_side_effects(self.loss, args):
                run.compile(args)
        except (Exception, Interrupted) as error:  # the signal has reached its listener by now
            self._may_compile = False
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._tell_once(f"Inductor cannot compile {_loss_name(self.loss)}, whose graph is replayed: {why}")

    def _too_many(self, seen: "_GraphKeys") -> str:
        what = seen.difference(list(self._runs)[-1])
        return f"{_loss_name(self.loss)} has {MOST_GRAPHS} graphs, one for each {what}; where it is new it runs eagerly"

    def _tell_once(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            self._tell(words)


class _GraphKeys:
    """The key of a graph: shapes, modes, and the Python state that the graph is specialised on."""

    def __init__(self, loss: nn.Module) -> None:
        self.watch, self.held = PythonState(loss), ModuleState(loss)

    def key(self, args: Sequence[Tensor]) -> tuple[Any, ...]:
        held = self.held()
        like = [(x.shape, x.stride(), x.dtype, x.device) for x in args]
        learn = [
            (x.requires_grad, x.shape, x.stride(), x.dtype, x.device, _has_hooks(x)) if x is not None else None
            for x in held
        ]
        every = [*map(id, held), *map(id, args)]
        same = [every.index(id(x)) for x in args]  # the graph of loss(x, x) knows one x
        return *like, _cast(args), *learn, *same, *self.held.aliases(), self.watch.values()

    def difference(self, key: tuple[Any, ...]) -> str:
        """What differs between two graph keys, and what to do about it."""
        now = self.watch.values()
        if key[-1] == now:
            return "shape, type or mode of its arguments: give batches of one size (drop_last)"
        return f"value of {self.watch.changed(key[-1], now)}: make that a buffer (register_buffer), which is read anew"


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the parameter's own strides, as `backward` leaves it: fused optimizers pair them by address.

    Convolutions give theirs with the channels last.
    """
    if gradient.stride() == parameter.stride() or (gradient.is_contiguous() and parameter.is_contiguous()):
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


@dataclass
class _Run:
    """A graph in use, with the time it takes."""

    graph: GradientGraph
    is_cast: bool  # by autocast, in the graph already
    tier: Tier = "graph"
    pace: BreakEven = field(default_factory=BreakEven)

    def __call__(self, args: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        start = time.perf_counter()
        with torch.autocast(args[0].device.type, enabled=False) if self.is_cast else nullcontext():
            found = self.graph(args)
        self.pace.took(time.perf_counter() - start)
        return found

    def pays(self, steps: int | None) -> bool:
        """Whether compilation saves more time in the calls to come than it costs."""
        return self.tier == "graph" and self.pace.pays(steps)

    def compile(self, args: Sequence[Tensor]) -> None:
        inputs = self.graph.inputs(args)
        runner = inductor(self.graph.traced.graph, inputs)
        runner(inputs)
        self.graph.runner, self.tier = runner, "inductor"


class _PrecomputedGradients(torch.autograd.Function):
    """An autograd function for a value whose gradients are computed already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Any, ...]:
        return None, None, *torch._foreach_mul(list(ctx.gradients), up)


def _cast(args: Sequence[Tensor]) -> torch.dtype | None:
    """The dtype that autocast casts to; None if it is off."""
    kind = args[0].device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _warn(words: str) -> None:
    warnings.warn(words, stacklevel=8)


def _has_hooks(tensor: Tensor) -> bool:
    """Whether a tensor has hooks on its gradient."""
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def _loss_name(loss: nn.Module) -> str:
    """A loss in words, e.g. LeaveOneOut of SigmoidBeliefNet."""
    parts = [type(getattr(loss, part)).__name__ for part in ("objective", "program") if hasattr(loss, part)]
    return " of ".join(parts) or type(loss).__name__
