"""Running mean and deviation of vectors, by which they are brought to zero mean and unit variance."""

import torch
from torch import Tensor, nn

__all__ = ["RunningStandardization"]


class RunningStandardization(nn.Module):
    """The location and scale of vectors, running averages of what training has seen; 0 and 1 before that.

        mean' = mean + w (batch mean - mean),   square' alike,   w = max(1 / batches, momentum)
        loc = mean,   scale^2 = square - mean^2

    Its buffers are linear in the batches' averages, so that averaging them over ranks is exact. Batches count in
    training mode with gradients enabled alone; the location and scale carry no gradient.

    Arguments:
        size: Z, of a vector.
        momentum: in (0, 1], the weight of the latest batch after the first ones.

    Raises:
        ValueError: size is below 1, or momentum is not in (0, 1].

    Example:
        >>> standardization = RunningStandardization(2)
        >>> standardization.observe(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        >>> standardization.loc, standardization.scale
        (tensor([2., 2.]), tensor([1., 2.]))
    """

    mean: Tensor
    square: Tensor
    batches: Tensor

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

    @property
    def loc(self) -> Tensor:
        """(Z,)."""
        return self.mean.clone()  # of this moment, whatever is observed later

    @property
    def scale(self) -> Tensor:
        """(Z,), above 0."""
        return (self.square - self.mean.square()).clamp(min=LEAST_VARIANCE).sqrt()

    def observe(self, value: Tensor) -> None:
        """Take a batch (..., Z) into the averages."""
        if not (self.training and torch.is_grad_enabled()):
            return
        with torch.no_grad():
            rows = value.reshape(-1, value.shape[-1])
            self.batches.add_(1)
            weight = (1 / self.batches).clamp(min=self.momentum)
            self.mean.add_(weight * (rows.mean(0) - self.mean))
            self.square.add_(weight * (rows.square().mean(0) - self.square))


LEAST_VARIANCE = 1e-6
"""Below it a coordinate is constant, and is not scaled to unit variance."""
