"""An observed site whose log-density was computed before, as where all that it depends on is frozen."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

__all__ = ["KnownDensity"]


class KnownDensity(TorchDistribution):
    """The distribution of a datum at which its log-density is known, and nowhere else.

        log p(x) = log_density,   at the one x for which it was computed

    Arguments:
        log_density: (...), the batch shape, in nats.

    Example:
        >>> fn = KnownDensity(torch.tensor([-3.0, -4.0]))
        >>> fn.log_prob(torch.zeros(2))
        tensor([-3., -4.])

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    arg_constraints: dict[str, Constraint] = {"log_density": constraints.real}  # pyright: ignore[reportIncompatibleMethodOverride]
    support = constraints.real  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, log_density: Tensor, validate_args: bool | None = None) -> None:
        self.log_density = log_density
        super().__init__(torch.Size(log_density.shape), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "KnownDensity":
        new: Any = self._get_checked_instance(KnownDensity, _instance)
        new.log_density = self.log_density.expand(torch.Size(batch_shape))
        super(KnownDensity, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, whatever stands for the datum, (...).

        Arguments:
            value: of the batch shape; its values are not read.
        """
        return self.log_density.expand(torch.broadcast_shapes(value.shape, self.batch_shape))
