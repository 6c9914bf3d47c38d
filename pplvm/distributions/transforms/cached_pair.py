"""A transform of vectors that keeps its last pair and its log-determinant, so that neither is computed twice."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import Transform

__all__ = ["CachedPair"]


class CachedPair(Transform, ABC):
    """An invertible transform of vectors (..., D), event_dim 1, with `log_abs_det_jacobian` (...).

    A subclass gives both directions, each with the log-determinant of the forward one. The last pair is found again by
    the identity of its tensors, on the way back alone, as by the density of a draw, and while the tensors that the
    transform holds, itself or in its network, are those that it was made with and unchanged: a value that is held over
    many steps is computed with the parameters of each. A pair made without gradients, as by `sample()`, is not taken
    for one with them. A copy of a transform holds no pair.

    Arguments:
        size: D; None for any.
    """

    bijective = True
    domain: Any = constraints.real_vector
    codomain: Any = constraints.real_vector

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size = size
        self._pair: _Pair | None = None

    @abstractmethod
    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (..., D) and log |det dy/dx| (...)."""

    @abstractmethod
    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., D) and log |det dy/dx| (...)."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pair": None}  # pyright: ignore[reportAttributeAccessIssue]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if (kept := self._pair) is not None and kept.x is x and kept.y is y and self._holds(kept):
            return kept.log_det
        return self.forward_and_log_det(self._sized(x))[1]

    def with_cache(self, cache_size: int = 1) -> "CachedPair":
        return self

    def _call(self, x: Tensor) -> Tensor:
        if (kept := self._pair) is not None and kept.x is x and kept.is_inverse and self._holds(kept):
            return kept.y
        y, log_det = self.forward_and_log_det(self._sized(x))
        self._pair = _Pair(x, y, log_det, False, torch.is_grad_enabled(), self._versions())
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        if (kept := self._pair) is not None and kept.y is y and not kept.is_inverse and self._holds(kept):
            return kept.x
        x, log_det = self.inverse_and_log_det(self._sized(y))
        self._pair = _Pair(x, y, log_det, True, torch.is_grad_enabled(), self._versions())
        return x

    def _holds(self, kept: "_Pair") -> bool:
        return (kept.has_graph or not torch.is_grad_enabled()) and kept.versions == self._versions()

    def _versions(self) -> list[tuple[int, int]]:
        """The tensors that the transform depends on, as far as they are known, and how often each was changed."""
        tensors = [tensor for held in vars(self).values() for tensor in _tensors(held)]
        return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]

    def _sized(self, value: Tensor) -> Tensor:
        if self.size is not None and value.shape[-1:] != (self.size,):
            raise ValueError(
                f"{type(self).__name__} transforms vectors of {self.size}, and got shape {tuple(value.shape)}: give "
                "the flow the size of what it transforms"
            )
        return value


class _Pair(NamedTuple):
    x: Tensor
    y: Tensor
    log_det: Tensor
    is_inverse: bool  # whether x was computed from y
    has_graph: bool
    versions: list[tuple[int, int]]


def _tensors(held: Any) -> list[Tensor]:
    """Of a tensor, of a module, and of those that a function has bound."""
    if isinstance(held, Tensor):
        return [held]
    if isinstance(held, nn.Module):
        each = [(*module._parameters.values(), *module._buffers.values()) for module in held.modules()]
        return [tensor for some in each for tensor in some if tensor is not None]
    if not callable(held):
        return []
    bound = [getattr(held, "__self__", None), getattr(held, "func", None), *getattr(held, "args", ())]
    bound += [*getattr(held, "keywords", {}).values()]
    bound += [cell.cell_contents for cell in getattr(held, "__closure__", None) or ()]
    return [tensor for each in bound if isinstance(each, Tensor | nn.Module) for tensor in _tensors(each)]
