"""A sigmoid onto an interval: y = high sigmoid(x), with its log-determinant from both tails.

log dy/dx = log high - softplus(x) - softplus(-x)
"""

import math

import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import softplus

from pplvm.distributions.transforms.cached_pair import CachedPair

__all__ = ["ScaledSigmoid"]


class ScaledSigmoid(CachedPair):
    """Maps the real line onto (0, high), coordinate by coordinate; its inverse is log y - log(high - y).

    Values that would round to an end stay one step inside.

    Arguments:
        high: positive.

    Raises:
        ValueError: high is not positive.

    Example:
        >>> ScaledSigmoid(256.0)(torch.tensor([0.0, 99.0])) < 256
        tensor([True, True])

    References:
        Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2017, arXiv:1605.08803, section 4.1
    """

    def __init__(self, high: float = 1.0) -> None:
        super().__init__()
        if not high > 0:
            raise ValueError(f"ScaledSigmoid: high must be positive, got {high!r}")
        self.high = high
        self.codomain = constraints.independent(constraints.interval(0.0, high), 1)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        limits = torch.finfo(x.dtype)
        y = self.high * x.sigmoid().clamp(limits.tiny, 1 - limits.eps)
        return y, self._log_det(x)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x = y.log() - (self.high - y).log()
        return x, self._log_det(x)

    def _log_det(self, x: Tensor) -> Tensor:
        return (math.log(self.high) - softplus(x) - softplus(-x)).sum(-1)
