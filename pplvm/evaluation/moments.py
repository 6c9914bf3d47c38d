"""Streaming moments: what is kept does not grow with the number of draws.

References:
    Welford, Note on a method for calculating corrected sums of squares and products, 1962
"""

import math

import torch
from torch import Tensor

__all__ = ["Covariance", "CrossCovariance", "Moments"]


class Moments:
    """Mean and variance of each entry of a vector, in float64.

    Example:
        >>> moments = Moments(1)
        >>> for value in (1.0, 3.0):
        ...     moments.add(torch.tensor([value]))
        >>> moments.mean.item(), moments.variance.item()
        (2.0, 2.0)
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64)  # (size,)
        self._squares = torch.zeros(size, dtype=torch.float64)

    def add(self, value: Tensor) -> None:
        """Take in one draw, (size,)."""
        self.count += 1
        value = value.to(self.mean)
        gap = value - self.mean
        self.mean += gap / self.count
        self._squares += gap * (value - self.mean)

    @property
    def variance(self) -> Tensor:
        """Unbiased, (size,); not a number before the second draw."""
        return self._squares / (self.count - 1) if self.count > 1 else torch.full_like(self._squares, math.nan)

    @property
    def standard_error(self) -> Tensor:
        """Of the mean, (size,)."""
        return (self.variance / max(self.count, 1)).sqrt()


class Covariance:
    """Mean and covariance matrix of a short vector, in float64."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64)  # (size,)
        self._products = torch.zeros(size, size, dtype=torch.float64)

    def add(self, value: Tensor) -> None:
        """Take in one draw, (size,)."""
        self.count += 1
        value = value.to(self.mean)
        gap = value - self.mean
        self.mean += gap / self.count
        self._products += torch.outer(gap, value - self.mean)

    @property
    def matrix(self) -> Tensor:
        """Unbiased, (size, size)."""
        return self._products / max(self.count - 1, 1)


class CrossCovariance:
    """The traces of the covariances between several long vectors that are drawn together, in float64.

    Arguments:
        vectors: E, how many there are.
        size: P, entries of each.
    """

    def __init__(self, vectors: int, size: int) -> None:
        self.count = 0
        self.mean = torch.zeros(vectors, size, dtype=torch.float64)  # (E, P)
        self._products = torch.zeros(vectors, vectors, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in one draw of all, (E, P)."""
        self.count += 1
        gap = values.to(self.mean) - self.mean
        self.mean += gap / self.count
        self._products += gap @ (values.to(self.mean) - self.mean).T

    @property
    def traces(self) -> Tensor:
        """Unbiased, (E, E); the variances, summed over entries, on the diagonal."""
        return self._products / max(self.count - 1, 1)
