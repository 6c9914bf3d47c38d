"""Training in one call: batches -> loss -> step -> losses."""

import sys
from collections.abc import Iterable

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from pplvm.batch import Batch
from pplvm.graphs.compiled import Compiled, Tier, compiled
from pplvm.training.fit_iterator import FitIterator
from pplvm.training.minibatches import Rows, minibatches
from pplvm.training.run import Rule, Run
from pplvm.training.stepper import Optimizers, Stepper, unwrapped

__all__ = ["fit"]


def fit(
    loss: nn.Module,
    batches: Iterable[Batch] | Rows,
    optimizer: Optimizers,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    schedulers: Iterable[LRScheduler] = (),
    clip: float | None = None,
    averaged: AveragedModel | None = None,
    rule: Rule = Stepper.__call__,
    compile: Tier = "auto",
) -> FitIterator:
    """Train one step a batch: `fit(...).run()` takes all steps, `for value in fit(...)` one at a time.

    Nothing happens before; either gives the loss of each step, detached and not yet read.

    Arguments:
        loss: a module that maps a batch to a scalar, loss(x) or loss(x, y), wrapped for data parallelism or not.
        batches: as many as there are to be steps, x (B, ...) or (x, y, ...) each, as a DataLoader gives them; or data
            to make them of: a tensor (N, ...), a TensorDataset, a data set of pplvm, or with batch_size a tuple
            (x, y, ...) of tensors (N, ...).
        optimizer: of the loss's parameters, or several, each with a name and parameters of its own.
        epochs: times that batches or data are gone through, 1 if None.
        batch_size: of batches made of data, 100 if None; they are shuffled by torch's random state in every epoch.
        schedulers: of learning rates; each takes a step a step.
        clip: the largest norm of the whole gradient.
        averaged: `AveragedModel(loss, ...)` of `torch.optim.swa_utils`, updated after each step.
        rule: how one batch is spent.
        compile: how the loss runs, see `pplvm.graphs.compiled.compiled`; one that is compiled or wrapped already runs
            as it is.

    Raises:
        TypeError: a batch holds what is no tensor, or the loss takes fewer parts of it, or more.
        FloatingPointError: the loss, the gradient, or a parameter is not finite; the parameters are those that gave it.
        ValueError: clip is not positive; two optimizers share a parameter; compile has another name; epochs or
            batch_size does not go with such batches.

    Example:
        >>> import torch
        >>> loss = nn.Sequential(nn.Linear(2, 1), nn.Softplus(), nn.Flatten(0))
        >>> optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
        >>> values = fit(loss, torch.ones(5, 2), optimizer, epochs=3, batch_size=1).run()
        >>> values.shape, bool(values[-1] < values[0])
        (torch.Size([15]), True)
    """
    made, count = minibatches(batches, epochs, batch_size)
    plain, _ = unwrapped(loss)
    if not isinstance(loss, Compiled | DistributedDataParallel):
        loss = compiled(loss, compile, count)
    run = Run(Stepper(loss, optimizer, schedulers, clip, averaged), made, rule)
    losses = (step.loss for step in run)
    return FitIterator(losses, type(plain).__name__, count, sys._getframe(1).f_code, getattr(plain, "reported", dict))
