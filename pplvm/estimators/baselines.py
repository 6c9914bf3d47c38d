"""Training of baselines and control variates, before the gradients that they serve are measured."""

from collections.abc import Sequence

import torch

from pplvm.batch import Batch, as_tuple
from pplvm.objectives.objective import Loss

__all__ = ["train_baseline"]


def train_baseline(loss: Loss, batches: Sequence[Batch], steps: int) -> None:
    """Train a baseline at the program's present parameters, then freeze it."""
    assert loss.control is not None
    loss.control.train()
    learned = list(loss.control.parameters())
    optimizer = torch.optim.Adam(learned, lr=1e-2) if learned else None
    for step in range(steps):
        loss.zero_grad(set_to_none=True)
        loss(*as_tuple(batches[step % len(batches)])).backward()
        if optimizer is not None:
            optimizer.step()
    loss.control.eval()
