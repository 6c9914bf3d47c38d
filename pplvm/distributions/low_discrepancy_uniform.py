"""Uniform numbers that are evenly spread over the batch, each of them uniform by itself."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["LowDiscrepancyUniform"]


class LowDiscrepancyUniform(dist.Uniform):
    """Uniform on [low, high), with one offset for all of the last batch dimension, over which draws are evenly spread.

        value_b = low + (high - low) ((offset + b / B) mod 1),     offset ~ U(0, 1)

    Each value is uniform, so that a mean over b is unbiased, and its variance is that of an even grid. Other
    dimensions, particles among them, are independent. The density is that of each value, as if they were independent:
    for what model and guide draw alike, whose log-densities cancel (diffusion times, masking rates).

    Arguments:
        low, high: any batch shape.

    Raises:
        ValueError: low is not below high, if arguments are validated.

    Example:
        >>> times = LowDiscrepancyUniform(torch.zeros(4), torch.ones(4)).sample()
        >>> (times.sort().values.diff() - 0.25).abs().max() < 1e-6
        tensor(True)

    References:
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630, appendix I.1
    """

    is_drawn_alike = True

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        if not self.batch_shape:
            return super().rsample(torch.Size(sample_shape))
        B = shape[-1]
        offset = torch.rand((*shape[:-1], 1), dtype=self.low.dtype, device=self.low.device)
        even = (offset + torch.arange(B, dtype=offset.dtype, device=offset.device) / B).frac()
        return self.low + (self.high - self.low) * even
