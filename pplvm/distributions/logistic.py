"""The logistic distribution with finite draws: p(x) = sigmoid(x) sigmoid(-x), at a location and scale."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["Logistic"]


class Logistic(dist.Logistic):
    """Pyro's Logistic, whose draws are finite also where the uniform number behind them is 0.

    In float32 that number is 0 once in 2^24 draws, and its logit -inf; here it is half of the smallest other one.

        p(x) = sigmoid(y) sigmoid(-y) / scale,   y = (x - loc) / scale

    Arguments:
        loc, scale: (...), broadcast; scale is positive.

    Example:
        >>> Logistic(torch.zeros(3), 1.0).to_event(1).sample((2,)).shape
        torch.Size([2, 3])

    References:
        Balakrishnan, Handbook of the logistic distribution, 1992
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = self.loc.new_empty(self._extended_shape(torch.Size(sample_shape))).uniform_()
        return self.icdf(u.clamp(min=torch.finfo(u.dtype).eps / 4))
