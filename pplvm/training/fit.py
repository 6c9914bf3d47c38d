"""The loop: batches -> loss -> step."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

__all__ = ["fit"]


def fit(loss: nn.Module, batches: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Take one optimizer step a batch, yielding each step's loss, detached and not yet read.

    Arguments:
        loss: a module that maps a batch (B, ...) to a scalar.
        batches: as many as there are to be steps.
        optimizer: of the loss's parameters.

    Raises:
        FloatingPointError: the loss, or a parameter, is not finite; the parameters are those that gave it.

    Example:
        >>> loss = nn.Sequential(nn.Linear(2, 1), nn.Softplus(), nn.Flatten(0))
        >>> steps = fit(loss, 10 * [torch.ones(1, 2)], torch.optim.SGD(loss.parameters(), lr=0.1))
        >>> first, *_, last = (float(value) for value in steps)
        >>> last < first
        True
    """
    loss.train()
    for step, x in enumerate(batches):
        optimizer.zero_grad(set_to_none=True)
        try:
            value = loss(x)
        except (RuntimeError, ValueError) as error:  # distributions refuse what is no number
            if all(p.isfinite().all() for p in loss.parameters()):
                raise
            raise FloatingPointError(f"parameters are not finite at step {step}: lower the learning rate") from error
        if not torch.isfinite(value.detach()):
            raise FloatingPointError(f"the loss is {value.item()} at step {step}: lower the learning rate")
        value.backward()
        optimizer.step()
        yield value.detach()
