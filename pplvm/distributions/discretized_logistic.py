"""The logistic distribution discretized to the grey levels k / (L - 1) of data, k = 0 .. L - 1.

P(k) = F((k + 1/2 - loc) / scale) - F((k - 1/2 - loc) / scale),   F the logistic function, no lower end at k = 0 and no
upper end at k = L - 1: a logistic variable, rounded and clamped.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

from pplvm.distributions.grey_levels import GreyLevels, grey_levels, level_of, require_levels

__all__ = ["DiscretizedLogistic"]

TERMS_AT_ONCE = 2**22
"""Probabilities that a mean holds at once: 16 MB in float32."""


class DiscretizedLogistic(TorchDistribution):
    """A logistic distribution discretized to grey levels, exact at both ends and for any scale.

        log P(k) = log F(a) + log F(-b) + log(1 - exp(-1 / scale)),    a, b = (k + 1/2 - loc, k - 1/2 - loc) / scale

    without the last two terms at k = 0, without the first and the last at k = L - 1.

    Arguments:
        loc: (...), in levels: loc = k is centred on level k.
        scale: (...), positive, in levels.
        levels: L, at least 2; values are k / (L - 1).

    Raises:
        ValueError: levels is not at least 2.

    Example:
        >>> grey = DiscretizedLogistic(torch.tensor([0.0, 8.0]), torch.tensor(2.0), levels=17)
        >>> grey.sample((5,)).shape, grey.log_prob(torch.tensor([0.0, 0.5])).exp()
        (torch.Size([5, 2]), tensor([0.5622, 0.1244]))
        >>> grey.log_prob(grey.enumerate_support()).exp().sum(0).allclose(torch.ones(2))
        True

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improving variational inference with inverse
        autoregressive flow, 2016, arXiv:1606.04934, appendix
        Salimans, Karpathy, Chen and Kingma, PixelCNN++, 2017, arXiv:1701.05517
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    has_enumerate_support = True

    def __init__(self, loc: Tensor, scale: Tensor, levels: int, *, validate_args: bool | None = None) -> None:
        self.levels = require_levels(levels, type(self).__name__)
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(torch.Size(self.loc.shape), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Constraint:
        return GreyLevels(self.levels)

    @property
    def mean(self) -> Tensor:
        """The exact mean, the sum over levels of P(K >= k), divided by L - 1."""
        total, count = torch.zeros_like(self.loc), max(1, TERMS_AT_ONCE // max(1, self.loc.numel()))
        edges = torch.arange(1, self.levels, dtype=self.loc.dtype, device=self.loc.device) - 0.5
        for each in edges.split(count):
            gap = self.loc - each.reshape(-1, *[1] * self.loc.dim())
            total = total + (gap / self.scale).sigmoid().sum(0)
        return total / (self.levels - 1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "DiscretizedLogistic":
        shape = torch.Size(batch_shape)
        new = DiscretizedLogistic(self.loc.expand(shape), self.scale.expand(shape), self.levels, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            noise = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).logit()
            return (self.loc + self.scale * noise).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        level, inverse = level_of(value, self.levels), self.scale.reciprocal()
        is_above, is_below = level > 0, level < self.levels - 1  # the lowest level has no lower end
        zero = torch.zeros_like(inverse)
        upper = logsigmoid((level + 0.5 - self.loc) * inverse)
        lower = logsigmoid((self.loc - level + 0.5) * inverse)
        width = (-torch.expm1(-inverse)).log()
        ends = torch.where(is_below, upper, zero) + torch.where(is_above, lower, zero)
        return ends + torch.where(is_above & is_below, width, zero)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = grey_levels(self.levels, self.loc).reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values
