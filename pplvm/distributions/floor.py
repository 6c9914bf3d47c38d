"""The point mass that makes a mass of a density: x = floor(v) / (levels - 1) of a latent v in [0, levels).

P(x = k / (levels - 1)) is then the integral of v's density over [k, k + 1).
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pplvm.distributions.grey_levels import GreyLevels, level_of, require_levels

__all__ = ["Floor"]


class Floor(TorchDistribution):
    """All mass at floor(value) / (levels - 1): log_prob is 0 there, and -inf at other levels.

    Arguments:
        value: (...), in [0, levels); what is outside goes to the level at that end.
        levels: of the data, at least 2.

    Raises:
        ValueError: levels is no integer of at least 2; a value is nan, if arguments are validated.

    Example:
        >>> Floor(torch.tensor([0.3, 2.9]), levels=5).log_prob(torch.tensor([0.0, 0.75]))
        tensor([0., -inf])

    References:
        Theis, van den Oord and Bethge, A note on the evaluation of generative models, 2016, arXiv:1511.01844
    """

    arg_constraints: dict[str, Constraint] = {"value": constraints.real}  # pyright: ignore[reportIncompatibleMethodOverride]
    is_point_mass = True
    has_rsample = False

    def __init__(self, value: Tensor, levels: int, validate_args: bool | None = None) -> None:
        self.value, self.levels = value, require_levels(levels, type(self).__name__)
        super().__init__(value.shape, torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return GreyLevels(self.levels)

    @property
    def index(self) -> Tensor:
        """floor(value), as a real number: (...)."""
        return self.value.detach().floor().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        return self.index / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.value)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Floor":
        new = Floor(self.value.expand(torch.Size(batch_shape)), self.levels, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.mean.expand(*sample_shape, *self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        there = level_of(value, self.levels) == self.index
        return torch.where(there, 0.0, -torch.inf).to(self.value.dtype)
