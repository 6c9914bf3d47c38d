"""Running mean and deviation of vectors, by which they are brought to zero mean and unit variance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["RunningStandardization"]


class RunningStandardization(nn.Module):
    """The location and scale of vectors, running averages of what training has seen; 0 and 1 before that.

        mean' = mean + w (batch mean - mean),   square' alike,   w = max(1 / batches, momentum)
        loc = mean,   scale^2 = square - mean^2

    Batches count in training mode with gradients enabled alone, and move the averages in `after_step`, which
    `pplvm.training.stepper.Stepper` calls, or a loop of your own: within a step, location and scale stay what they are.
    All is linear in the batches' averages, so that averaging buffers over ranks is exact. Neither carries a gradient.

    Arguments:
        size: Z, of a vector.
        momentum: in (0, 1], the weight of the latest batch after the first ones.

    Raises:
        ValueError: size is below 1, or momentum is not in (0, 1].

    Example:
        >>> standardization = RunningStandardization(2)
        >>> standardization.observe(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        >>> standardization.after_step()
        >>> standardization.loc, standardization.scale
        (tensor([2., 2.]), tensor([1., 2.]))
    """

    mean: Tensor
    square: Tensor
    batches: Tensor
    seen: Tensor

    def __init__(self, size: int, momentum: float = 0.01) -> None:
        super().__init__()
        if size < 1 or not 0 < momentum <= 1:
            raise ValueError(
                f"RunningStandardization: size must be at least 1 and momentum in (0, 1], got {size} and {momentum}"
            )
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.ones(size))
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(3, size), persistent=False)  # since the last step: sums, their number

    @property
    def loc(self) -> Tensor:
        """(Z,)."""
        return self.mean

    @property
    def scale(self) -> Tensor:
        """(Z,), above 0."""
        return (self.square - self.mean.square()).clamp(min=LEAST_VARIANCE).sqrt()

    def observe(self, value: Tensor) -> None:
        """Take a batch (..., Z) into the averages, as of the end of this step."""
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                rows = value.reshape(-1, value.shape[-1])
                self.seen.add_(torch.stack([rows.mean(0), rows.square().mean(0), torch.ones_like(rows[0])]))

    @torch.no_grad()
    def after_step(self, all_rows: Callable[[Tensor], Tensor] | None = None) -> None:
        """Move the averages by the batches since the last step, of which all ranks have the same."""
        count = self.seen[2]
        new = (count > 0).to(count.dtype)
        self.batches.add_(new[0])
        weight = new * (1 / self.batches.clamp(min=1)).clamp(min=self.momentum)
        self.mean.add_(weight * (self.seen[0] / count.clamp(min=1e-6) - self.mean))
        self.square.add_(weight * (self.seen[1] / count.clamp(min=1e-6) - self.square))
        self.seen.zero_()


LEAST_VARIANCE = 1e-6
"""Below it a coordinate is constant, and is not scaled to unit variance."""
