"""Mixtures of discretized logistics: of single grey values, and of the colours of an image's pixels.

grey   P(x) = sum_m pi_m P_m(x)
RGB    P(r, g, b) = sum_m pi_m P_m(r) P_m(g | r) P_m(b | r, g),   means of g and b linear in the channels before
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.constraints import Constraint

from pplvm.distributions.discretized_logistic import DiscretizedLogistic
from pplvm.distributions.grey_levels import GreyLevels, grey_levels, level_of, require_levels

__all__ = ["DiscretizedLogisticMixture", "DiscretizedLogisticMixtureRGB"]


class DiscretizedLogisticMixture(TorchDistribution):
    """A mixture of M discretized logistics for each grey value.

        P(x) = sum_m pi_m DiscretizedLogistic(x; loc_m, scale_m),   pi = softmax(logits)

    Arguments:
        logits: (..., M).
        loc: (..., M), in levels: loc = k is centred on level k.
        scale: (..., M), positive, in levels.
        levels: L, at least 2; values are k / (L - 1).

    Raises:
        ValueError: levels is not at least 2.

    Example:
        >>> grey = DiscretizedLogisticMixture(torch.zeros(6, 3), torch.randn(6, 3), torch.ones(6, 3), levels=17)
        >>> grey.to_event(1).sample((2,)).shape, grey.log_prob(grey.sample()).shape
        (torch.Size([2, 6]), torch.Size([6]))

    References:
        Salimans, Karpathy, Chen and Kingma, PixelCNN++, 2017, arXiv:1701.05517
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "logits": constraints.real_vector,
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }
    has_enumerate_support = True

    def __init__(
        self, logits: Tensor, loc: Tensor, scale: Tensor, levels: int, *, validate_args: bool | None = None
    ) -> None:
        self.levels = require_levels(levels, type(self).__name__)
        self.logits, self.loc, self.scale = torch.broadcast_tensors(logits, loc, scale)
        super().__init__(torch.Size(self.logits.shape[:-1]), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Constraint:
        return GreyLevels(self.levels)

    @property
    def mean(self) -> Tensor:
        """The exact mean."""
        return (self.logits.softmax(-1) * self._components.mean).sum(-1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "DiscretizedLogisticMixture":
        logits, loc, scale = (part.expand(*batch_shape, -1) for part in (self.logits, self.loc, self.scale))
        new = DiscretizedLogisticMixture(logits, loc, scale, self.levels, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            which = _drawn(self.logits, torch.Size(sample_shape))
            loc, scale = ((part * which).sum(-1) for part in (self.loc, self.scale))
            return DiscretizedLogistic(loc, scale, self.levels, validate_args=False).sample()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return (self.logits.log_softmax(-1) + self._components.log_prob(value.unsqueeze(-1))).logsumexp(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = grey_levels(self.levels, self.loc).reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    @property
    def _components(self) -> DiscretizedLogistic:
        return DiscretizedLogistic(self.loc, self.scale, self.levels, validate_args=False)


class DiscretizedLogisticMixtureRGB(TorchDistribution):
    """A mixture of M discretized logistics for each pixel of an image, its three channels coupled.

        mean of r = loc_r,   of g = loc_g + c_1 r',   of b = loc_b + c_2 r' + c_3 g',    r', g' in levels from mid grey

    The component of a pixel is that of all three channels.

    Arguments:
        logits: (..., M, H, W).
        loc: (..., M, 3, H, W), in levels: loc = k is centred on level k.
        scale: (..., M, 3, H, W), positive, in levels.
        coefficients: (..., M, 3, H, W), c_1, c_2 and c_3; a network gives them through tanh.
        levels: L, at least 2; values are k / (L - 1).

    Raises:
        ValueError: levels is not at least 2, or there are not three channels.

    Example:
        >>> of_channels = torch.zeros(5, 10, 3, 8, 8)
        >>> colours = DiscretizedLogisticMixtureRGB(
        ...     torch.zeros(5, 10, 8, 8), of_channels + 128, of_channels + 20, of_channels, levels=256
        ... )
        >>> colours.batch_shape, colours.event_shape
        (torch.Size([5]), torch.Size([3, 8, 8]))

    References:
        Salimans, Karpathy, Chen and Kingma, PixelCNN++, 2017, arXiv:1701.05517
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "logits": constraints.independent(constraints.real, 3),
        "loc": constraints.independent(constraints.real, 4),
        "scale": constraints.independent(constraints.positive, 4),
        "coefficients": constraints.independent(constraints.real, 4),
    }

    def __init__(
        self,
        logits: Tensor,
        loc: Tensor,
        scale: Tensor,
        coefficients: Tensor,
        levels: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.levels = require_levels(levels, type(self).__name__)
        loc, scale, coefficients = torch.broadcast_tensors(loc, scale, coefficients)
        if loc.dim() < 4 or loc.shape[-3] != 3:
            raise ValueError(
                "DiscretizedLogisticMixtureRGB: loc, scale and coefficients must be (..., M, 3, H, W), of three "
                f"channels, got {tuple(loc.shape)}: use DiscretizedLogisticMixture for grey images"
            )
        shape = torch.broadcast_shapes(logits.unsqueeze(-3).shape, loc.shape[:-3] + (1,) + loc.shape[-2:])
        self.loc, self.scale, self.coefficients = (
            part.expand(*shape[:-3], 3, *shape[-2:]) for part in (loc, scale, coefficients)
        )
        self.logits = logits.expand(shape[:-3] + shape[-2:])
        super().__init__(torch.Size(self.loc.shape[:-4]), torch.Size(self.loc.shape[-3:]), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=3)
    def support(self) -> Constraint:
        return constraints.independent(GreyLevels(self.levels), 3)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "DiscretizedLogisticMixtureRGB":
        parts = (self.loc, self.scale, self.coefficients)
        logits = self.logits.expand(*batch_shape, *self.logits.shape[-3:])
        parts = (part.expand(*batch_shape, *part.shape[-4:]) for part in parts)
        new = DiscretizedLogisticMixtureRGB(logits, *parts, self.levels, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            which = _drawn(self.logits.movedim(-3, -1), torch.Size(sample_shape)).movedim(-1, -3).unsqueeze(-3)
            of_pixel = ((part * which).sum(-4) for part in (self.loc, self.scale, self.coefficients))
            loc, scale, coefficients = (part.unbind(-3) for part in of_pixel)  # each of three channels
            drawn: list[Tensor] = []
            for channel in range(3):
                mean = loc[channel] + _coupling(coefficients, drawn, self.levels)
                drawn.append(DiscretizedLogistic(mean, scale[channel], self.levels, validate_args=False).sample())
            return torch.stack(drawn, -3)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        channels = value.unsqueeze(-4).unbind(-3)  # each (..., 1, H, W)
        coefficients = self.coefficients.unbind(-3)
        moves = [_coupling(coefficients, channels[:channel], self.levels) for channel in range(3)]
        means = [loc + move for loc, move in zip(self.loc.unbind(-3), moves, strict=True)]
        densities = (
            DiscretizedLogistic(mean, scale, self.levels, validate_args=False).log_prob(x)
            for mean, scale, x in zip(means, self.scale.unbind(-3), channels, strict=True)
        )
        return (self.logits.log_softmax(-3) + sum(densities)).logsumexp(-3).sum((-2, -1))


def _coupling(coefficients: Sequence[Tensor], before: Sequence[Tensor], levels: int) -> Any:
    """How far the channels before move the mean of the next, in levels."""
    from_grey = [level_of(channel, levels) - (levels - 1) / 2 for channel in before]
    first = {0: 0, 1: 0, 2: 1}[len(before)]
    pairs = zip(coefficients[first:], from_grey, strict=False)
    return sum(coefficient * channel for coefficient, channel in pairs)


def _drawn(logits: Tensor, sample_shape: torch.Size) -> Tensor:
    """One-hot draws of components, (*sample_shape, ..., M)."""
    noise = -torch.empty(sample_shape + logits.shape, dtype=logits.dtype, device=logits.device).exponential_().log()
    chosen = (logits + noise).argmax(-1, keepdim=True)
    return (chosen == torch.arange(logits.shape[-1], device=logits.device)).to(logits.dtype)
