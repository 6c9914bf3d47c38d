"""The uniform distribution over 1 .. N, drawn evenly over a batch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.constraints import Constraint

__all__ = ["LowDiscrepancyInteger"]


class LowDiscrepancyInteger(TorchDistribution):
    """Uniform over 1 .. N, with draws spread evenly over the last dimension of the batch.

        n_b = 1 + floor(N ((u + b / B) mod 1)),   u uniform on [0, 1),   b = 0 .. B - 1

    Each draw alone is uniform, so that a mean over them is unbiased; together they fall into every B-th part of the
    range once, so that it varies less than with independent draws. `log_prob` is that of each alone, -log N: it has no
    parameters, and as an auxiliary latent, drawn in model and guide alike, it adds nothing to a log-weight.

    Arguments:
        high: N.
        batch_shape: of the draws.
        device: of the draws; torch's default unless given.

    Raises:
        ValueError: high is below 1.

    Example:
        >>> LowDiscrepancyInteger(3, (6,)).sample().sort().values
        tensor([1, 1, 2, 2, 3, 3])

    References:
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630, appendix I.1
    """

    arg_constraints: dict[str, Constraint] = {}  # pyright: ignore[reportIncompatibleMethodOverride]
    is_drawn_alike = True
    has_enumerate_support = True

    def __init__(
        self,
        high: int,
        batch_shape: Sequence[int] = (),
        *,
        device: torch.device | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if high < 1:
            raise ValueError(f"LowDiscrepancyInteger: high must be at least 1, got {high}")
        self.high, self._zero = high, torch.zeros((), device=device)
        super().__init__(torch.Size(batch_shape), torch.Size(), validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return constraints.integer_interval(1, self.high)

    @property
    def mean(self) -> Tensor:
        return self._zero.new_full(self.batch_shape, (self.high + 1) / 2, dtype=torch.get_default_dtype())

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.mean, (self.high**2 - 1) / 12)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = torch.arange(1, self.high + 1, device=self._zero.device)
        values = values.reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "LowDiscrepancyInteger":
        new: Any = self._get_checked_instance(LowDiscrepancyInteger, _instance)
        new.high, new._zero = self.high, self._zero
        super(LowDiscrepancyInteger, new).__init__(torch.Size(batch_shape), torch.Size(), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def at_temperature(self, temperature: float) -> "LowDiscrepancyInteger":
        """The same: it has no parameters, and stays uniform at any temperature."""
        return self

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        size = shape[-1] if shape else 1
        first = torch.rand(shape[:-1] + (1,) if shape else (), device=self._zero.device)
        places = (torch.arange(size, device=first.device) / size).reshape(shape[-1:])
        spread = (first + places).remainder(1.0)  # (..., B)
        return 1 + (self.high * spread).long().clamp(max=self.high - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        return self._zero.new_full(shape, -math.log(self.high), dtype=torch.get_default_dtype())

    def entropy(self) -> Tensor:
        return self._zero.new_full(self.batch_shape, math.log(self.high), dtype=torch.get_default_dtype())


@register_kl(LowDiscrepancyInteger, LowDiscrepancyInteger)
def _same_numbers(q: LowDiscrepancyInteger, p: LowDiscrepancyInteger) -> Tensor:
    if q.high != p.high:
        raise NotImplementedError(f"integers up to {q.high} and up to {p.high}")
    return q.entropy().new_zeros(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
