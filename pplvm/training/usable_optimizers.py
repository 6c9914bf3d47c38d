"""Checks that optimizers and schedulers can take a step from one gradient, with advice if they cannot."""

import inspect
from collections.abc import Iterable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

__all__ = ["parameters_of", "require_first_order", "scheduler_list"]


def scheduler_list(schedulers: Iterable[LRScheduler]) -> list[LRScheduler]:
    """The schedulers as a list, checked to step without the loss.

    Raises:
        TypeError: they are no list of torch's schedulers. ValueError: one needs to be told the loss.
    """
    if isinstance(schedulers, LRScheduler) or not isinstance(schedulers, Iterable):
        raise TypeError(f"schedulers is one {type(schedulers).__name__}: give a list, schedulers=[scheduler]")
    found = list(schedulers)
    for scheduler in found:
        kind = type(scheduler).__name__
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"{kind} must be told a loss, and fit tells schedulers none: leave it out and call its step in the "
                "loop, for value in fit(...): plateau.step(value)"
            )
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(f"{scheduler!r} is no scheduler of torch.optim.lr_scheduler, whose step() moves the rates")
    return found


def require_first_order(name: str, optimizer: Optimizer) -> None:
    """Refuse an optimizer that needs more than one gradient (a closure).

    Raises:
        TypeError: it is no optimizer of torch. ValueError: it evaluates the loss itself.
    """
    kind = type(optimizer)
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(
            f"optimizer {name!r} is a {kind.__module__}.{kind.__qualname__}: give one of torch.optim, such as "
            "torch.optim.Adam(loss.parameters(), lr=1e-3)"
        )
    if (closure := inspect.signature(optimizer.step).parameters.get("closure")) and closure.default is closure.empty:
        raise ValueError(
            f"optimizer {name!r} is {kind.__name__}, which evaluates the loss several times a step, with other noise "
            "each time: use one that takes a single gradient, such as torch.optim.Adam"
        )


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]
