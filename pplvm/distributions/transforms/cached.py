"""Transforms that give a value and its log-determinant in one pass, and remember both for the way back."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Transform

__all__ = ["CachedTransform"]


class CachedTransform(Transform):
    """A torch Transform that computes a value and its log-determinant together and remembers its last pair.

    After y = t(x), `t.inv(y)` is x and `t.log_abs_det_jacobian(x, y)` known, for the same tensors: the density of a
    draw costs no further pass. A pair serves the way back alone, so that values held over many steps are computed with
    the parameters of each, and one that was made without gradients serves no pass that needs them.
    """

    bijective = True

    def __init__(self) -> None:
        super().__init__(cache_size=0)
        self._last: _Pair | None = None

    @abstractmethod
    def forward_pass(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log |dy/dx|."""

    @abstractmethod
    def inverse_pass(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log |dy/dx| (not of the inverse)."""

    def with_cache(self, cache_size: int = 1) -> "CachedTransform":
        return self

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        last = self._last
        if last is not None and last.x is x and last.y is y and last.serves():
            return last.log_det
        return self.forward_pass(x)[1]

    def _call(self, x: Tensor) -> Tensor:
        last = self._last
        if last is not None and last.x is x and last.from_y and last.serves():
            return last.y
        y, log_det = self.forward_pass(x)
        self._last = _Pair(x, y, log_det, from_y=False, has_graph=torch.is_grad_enabled())
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        last = self._last
        if last is not None and last.y is y and not last.from_y and last.serves():
            return last.x
        x, log_det = self.inverse_pass(y)
        self._last = _Pair(x, y, log_det, from_y=True, has_graph=torch.is_grad_enabled())
        return x


class _Pair(NamedTuple):
    x: Tensor
    y: Tensor
    log_det: Tensor
    from_y: bool
    has_graph: bool

    def serves(self) -> bool:
        return self.has_graph or not torch.is_grad_enabled()
