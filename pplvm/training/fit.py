"""The loop: batches -> loss -> step -> record."""

from collections.abc import Callable, Iterable, Iterator, Sized

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from pplvm.graphs.compiled import Compiled, Tier, compiled
from pplvm.training.stepper import Optimizers, Step, Stepper

__all__ = ["Rule", "fit", "steps"]

Rule = Callable[[Stepper, Tensor], Step]
"""How one batch is spent: `Stepper.__call__`, all optimizers moving once, or a rule such as `Aggressive`."""


def fit(
    loss: nn.Module,
    batches: Iterable[Tensor],
    optimizer: Optimizers,
    *,
    schedulers: Iterable[LRScheduler] = (),
    clip: float | None = None,
    averaged: AveragedModel | None = None,
    rule: Rule = Stepper.__call__,
    compile: Tier = "auto",
) -> Iterator[Tensor]:
    """Take one step a batch, yielding each step's loss, detached and not yet read.

    Arguments:
        loss: a module that maps a batch (B, ...) to a scalar, wrapped for data parallelism or not.
        batches: as many as there are to be steps.
        optimizer: of the loss's parameters, or several, each with a name and parameters of its own.
        schedulers: of learning rates; each takes a step a step.
        clip: the largest norm of the whole gradient.
        averaged: `AveragedModel(loss, ...)` of `torch.optim.swa_utils`, updated after each step.
        rule: how one batch is spent.
        compile: how the loss runs, see `pplvm.graphs.compiled.compiled`; one that is compiled or wrapped already runs
            as it is.

    Raises:
        TypeError: a batch is no tensor.
        FloatingPointError: the loss, the gradient, or a parameter is not finite; the parameters are those that gave it.
        ValueError: clip is not positive; two optimizers share a parameter; compile has another name.

    Example:
        >>> import torch
        >>> loss = nn.Sequential(nn.Linear(2, 1), nn.Softplus(), nn.Flatten(0))
        >>> values = fit(loss, 10 * [torch.ones(1, 2)], torch.optim.SGD(loss.parameters(), lr=0.1))
        >>> first, *_, last = (float(value) for value in values)
        >>> last < first
        True
    """
    if not isinstance(loss, Compiled | DistributedDataParallel):
        loss = compiled(loss, compile, len(batches) if isinstance(batches, Sized) else None)
    stepper = Stepper(loss, optimizer, schedulers, clip, averaged)
    return (step.loss for step in steps(stepper, batches, rule))


def steps(stepper: Stepper, batches: Iterable[Tensor], rule: Rule = Stepper.__call__) -> Iterator[Step]:
    """The same from a stepper, whose state can be saved between two steps."""
    stepper.loss.train()
    for number, x in enumerate(batches):
        try:
            step = rule(stepper, x)
        except FloatingPointError as error:
            raise type(error)(f"step {number}: {error}") from error
        stepper.end_step()
        yield step
