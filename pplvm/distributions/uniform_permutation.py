"""The uniform distribution over the orders of N positions."""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.constraints import Constraint

__all__ = ["UniformPermutation"]

MOST_ENUMERATED = 7
"""Positions up to which all orders are listed: 7! are 5,040."""


class _Permutation(Constraint):
    """Vectors that hold each of 0 .. N - 1 once."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        each = torch.arange(value.shape[-1], device=value.device, dtype=value.dtype)
        return (value.sort(-1).values == each).all(-1)


class UniformPermutation(TorchDistribution):
    """The uniform distribution over permutations of 0 .. N - 1: position value[0] is first, then value[1], and so on.

        log p(order) = -log N!

    It has no parameters: as an auxiliary latent, drawn in model and guide alike, it adds nothing to a log-weight.

    Arguments:
        size: N.
        batch_shape: of independent draws.
        device: of the draws; torch's default unless given.

    Raises:
        ValueError: size is below 1.

    Example:
        >>> order = UniformPermutation(4).sample((3,))
        >>> order.shape, order.sort(-1).values[0].tolist()
        (torch.Size([3, 4]), [0, 1, 2, 3])

    References:
        Uria, Murray and Larochelle, A deep and tractable density estimator, 2014, arXiv:1310.1757
        Hoogeboom, Gritsenko, Bastings, Poole, van den Berg and Salimans, Autoregressive diffusion models, 2022,
        arXiv:2110.02037
    """

    arg_constraints: dict[str, Constraint] = {}  # pyright: ignore[reportIncompatibleMethodOverride]
    is_drawn_alike = True
    support = _Permutation()  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(
        self,
        size: int,
        batch_shape: Sequence[int] = (),
        *,
        device: torch.device | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"UniformPermutation: size must be at least 1, got {size}")
        self._zero = torch.zeros((), device=device)
        super().__init__(torch.Size(batch_shape), torch.Size([size]), validate_args=validate_args)

    @property
    def size(self) -> int:
        return self.event_shape[0]

    @property
    def has_enumerate_support(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.size <= MOST_ENUMERATED

    @property
    def mean(self) -> Tensor:
        return self._zero.new_full(
            self.batch_shape + self.event_shape, (self.size - 1) / 2, dtype=torch.get_default_dtype()
        )

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.mean, (self.size**2 - 1) / 12)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All N! orders, (N!, batch..., N); of at most 7 positions."""
        if not self.has_enumerate_support:
            raise NotImplementedError(f"UniformPermutation: the {self.size}! orders are too many to list")
        rows = torch.tensor(list(permutations(range(self.size))), device=self._zero.device)
        rows = rows.reshape(len(rows), *[1] * len(self.batch_shape), self.size)
        return rows.expand(-1, *self.batch_shape, -1) if expand else rows

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "UniformPermutation":
        new: Any = self._get_checked_instance(UniformPermutation, _instance)
        new._zero = self._zero
        super(UniformPermutation, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def at_temperature(self, temperature: float) -> "UniformPermutation":
        """The same: it has no parameters, and stays uniform at any temperature."""
        return self

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.rand(shape, device=self._zero.device).argsort(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return self._zero.new_full(shape, -math.lgamma(self.size + 1), dtype=torch.get_default_dtype())

    def entropy(self) -> Tensor:
        return self._zero.new_full(self.batch_shape, math.lgamma(self.size + 1), dtype=torch.get_default_dtype())


@register_kl(UniformPermutation, UniformPermutation)
def _same_orders(q: UniformPermutation, p: UniformPermutation) -> Tensor:
    return q.entropy().new_zeros(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
