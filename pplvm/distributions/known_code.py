"""The one-hot of a known code, as a point mass: what is left of a nearest code whose encoder is frozen."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint
from torch.nn.functional import one_hot

__all__ = ["KnownCode"]


class KnownCode(TorchDistribution):
    """All mass at the one-hot of a code, as `NearestCode` of a z that nothing moves.

        q(v) = 1 at v = one_hot(index)

    Arguments:
        index: (...), integers below K.
        num_codes: K, at least 2.
        dtype: of its values, torch's default unless given.

    Raises:
        ValueError: num_codes is below 2.

    Example:
        >>> KnownCode(torch.tensor([2, 0]), num_codes=3).sample()
        tensor([[0., 0., 1.],
                [1., 0., 0.]])

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "index": constraints.nonnegative_integer
    }
    support = constraints.one_hot  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    is_point_mass = True
    has_rsample = True
    has_enumerate_support = True

    def __init__(
        self, index: Tensor, num_codes: int, dtype: torch.dtype | None = None, validate_args: bool | None = None
    ) -> None:
        if num_codes < 2:
            raise ValueError(f"KnownCode: num_codes must be at least 2, got {num_codes}")
        self.index, self.dtype = index, dtype or torch.get_default_dtype()
        super().__init__(index.shape, torch.Size([num_codes]), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return one_hot(self.index, self.event_shape[0]).to(self.dtype)

    @property
    def mode(self) -> Tensor:
        return self.mean

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.mean)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "KnownCode":
        new: Any = self._get_checked_instance(KnownCode, _instance)
        new.index, new.dtype = self.index.expand(torch.Size(batch_shape)), self.dtype
        super(KnownCode, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.mean.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value.argmax(-1) == self.index, 0.0, -torch.inf).to(self.dtype)

    def entropy(self) -> Tensor:
        return torch.zeros(self.batch_shape, dtype=self.dtype, device=self.index.device)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        (K,) = self.event_shape
        states = torch.eye(K, dtype=self.dtype, device=self.index.device).reshape(K, *[1] * len(self.batch_shape), K)
        return states.expand(K, *self.batch_shape, K) if expand else states
