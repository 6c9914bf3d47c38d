"""Streaming moments, whose size does not grow with the number of draws, and which add up over sets of draws.

    mean = mean_a + q gap,    squares = squares_a + squares_b + n p q gap^2,    gap = mean_b - mean_a,

where p = n_a / n and q = n_b / n are the shares of both sets in n = n_a + n_b draws.

References:
    Welford, Note on a method for calculating corrected sums of squares and products, 1962
    Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979
"""

import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor

from pplvm.distributed.object_collectives import all_gather_object

__all__ = ["Covariance", "CrossCovariance", "Moments", "TensorMoments", "over_ranks"]


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

    @classmethod
    def of(cls, draws: Tensor) -> "Moments":
        """From several draws, (n, size)."""
        one = cls(draws.shape[1])
        one.count, one.mean = len(draws), draws.to(one.mean).mean(0)
        one._squares = (draws.to(one.mean) - one.mean).square().sum(0)
        return one

    def add(self, value: Tensor) -> None:
        """Add one draw, (size,)."""
        self.count += 1
        value = value.to(self.mean)
        gap = value - self.mean
        self.mean += gap / self.count
        self._squares += gap * (value - self.mean)

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both sets of draws."""
        whole, gap = Moments(len(self.mean)), other.mean - self.mean
        n, p, q = _shares(self.count, other.count)
        whole.count, whole.mean = n, self.mean + q * gap
        whole._squares = self._squares + other._squares + n * p * q * gap**2
        return whole

    @property
    def variance(self) -> Tensor:
        """The unbiased variance, (size,); nan before the second draw."""
        return self._squares / (self.count - 1) if self.count > 1 else torch.full_like(self._squares, math.nan)

    @property
    def standard_error(self) -> Tensor:
        """The standard error of the mean, (size,)."""
        return (self.variance / max(self.count, 1)).sqrt()


class Covariance:
    """Mean and covariance matrix of a short vector, with degrees of freedom, in float64.

    References:
        Pebay, Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
        moments, 2008, Sandia report SAND2008-6212
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64)  # (size,)
        self._products = torch.zeros(size, size, dtype=torch.float64)
        self._cubes, self._fourths = torch.zeros_like(self.mean), torch.zeros_like(self.mean)

    @classmethod
    def of(cls, draws: Tensor) -> "Covariance":
        """From several draws, (n, size)."""
        one = cls(draws.shape[1])
        one.count, one.mean = len(draws), draws.to(one.mean).mean(0)
        gap = draws.to(one.mean) - one.mean
        one._products, one._cubes, one._fourths = gap.T @ gap, gap.pow(3).sum(0), gap.pow(4).sum(0)
        return one

    def add(self, value: Tensor) -> None:
        """Add one draw, (size,)."""
        n, gap = self.count + 1, value.to(self.mean) - self.mean
        step, squares = gap / n, self._products.diagonal()
        grown = gap * step * self.count
        self._fourths += grown * step**2 * (n**2 - 3 * n + 3) + 6 * step**2 * squares - 4 * step * self._cubes
        self._cubes += grown * step * (n - 2) - 3 * step * squares
        self._products += torch.outer(gap, gap) * self.count / n
        self.mean += step
        self.count = n

    def __add__(self, other: "Covariance") -> "Covariance":
        """The moments of both sets of draws."""
        whole, gap = Covariance(len(self.mean)), other.mean - self.mean
        n, p, q = _shares(self.count, other.count)
        a, b = self._products.diagonal(), other._products.diagonal()
        apart = n * p * q * gap**2
        whole.count, whole.mean = n, self.mean + q * gap
        whole._products = self._products + other._products + n * p * q * torch.outer(gap, gap)
        whole._cubes = self._cubes + other._cubes + apart * gap * (p - q) + 3 * gap * (p * b - q * a)
        whole._fourths = self._fourths + other._fourths + apart * gap**2 * (p**2 - p * q + q**2)
        whole._fourths += 6 * gap**2 * (p**2 * b + q**2 * a) + 4 * gap * (p * other._cubes - q * self._cubes)
        return whole

    @property
    def matrix(self) -> Tensor:
        """The unbiased covariance, (size, size)."""
        return self._products / max(self.count - 1, 1)

    @property
    def freedom(self) -> Tensor:
        """Degrees of freedom of each variance, (size,): count - 1 of normal draws, fewer where tails are heavy.

        A sample variance has a relative variance of (kurtosis - 1) / count, that of a chi-square variable 2 /
        freedom.
        """
        squares, most = self._products.diagonal(), float(max(self.count - 1, 1))
        varies = squares > ROUNDING * squares.max()
        kurtosis = self.count * self._fourths / squares.square().where(varies, torch.ones_like(squares))
        return (2 * self.count / (kurtosis - 1).clamp(min=1e-9)).clamp(max=most).where(varies, squares.new_tensor(most))


ROUNDING = 1e-18
"""Share of the largest variance below which a variance is arithmetic."""


class TensorMoments:
    """The mean of each entry of a long vector, and the total variance of each tensor in it, in float64.

    Arguments:
        sizes: entries of each of T tensors, P together.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes, self.count = list(sizes), 0
        self.mean = torch.zeros(sum(sizes), dtype=torch.float64)  # (P,)
        self.squares = torch.zeros(len(self.sizes), dtype=torch.float64)  # (T,), distances from the mean, summed

    def __add__(self, other: "TensorMoments") -> "TensorMoments":
        """The moments of both sets of draws."""
        whole, gap = TensorMoments(self.sizes), other.mean - self.mean
        n, p, q = _shares(self.count, other.count)
        apart = torch.stack([part.square().sum() for part in gap.split(self.sizes)])
        whole.count, whole.mean = n, self.mean + q * gap
        whole.squares = self.squares + other.squares + n * p * q * apart
        return whole

    @property
    def variance(self) -> Tensor:
        """Unbiased, summed over each tensor's entries, (T,); not a number before the second draw."""
        return self.squares / (self.count - 1) if self.count > 1 else torch.full_like(self.squares, math.nan)

    @property
    def error(self) -> Tensor:
        """Squared standard error of the mean, summed over each tensor's entries, (T,)."""
        return self.variance / max(self.count, 1)


class CrossCovariance:
    """The traces of the covariances between several long vectors that are drawn together, in float64.

    Arguments:
        mean: of each of E vectors, (E, P).
        products: sums of inner products of their deviations from it, (E, E).
        count: draws so far.
    """

    def __init__(self, mean: Tensor, products: Tensor, count: int) -> None:
        self.mean, self.products, self.count = mean, products, count

    def __add__(self, other: "CrossCovariance") -> "CrossCovariance":
        """The moments of both sets of draws."""
        gap = other.mean - self.mean
        n, p, q = _shares(self.count, other.count)
        return CrossCovariance(self.mean + q * gap, self.products + other.products + n * p * q * gap @ gap.T, n)

    @property
    def traces(self) -> Tensor:
        """Unbiased, (E, E); the variances, summed over entries, on the diagonal."""
        return self.products / max(self.count - 1, 1)


M = TypeVar("M", Moments, Covariance, TensorMoments, CrossCovariance)


def over_ranks(moments: M) -> M:
    """The moments of all ranks' draws, merged; a collective operation."""
    return reduce(operator.add, all_gather_object(moments))


def _shares(a: int, b: int) -> tuple[int, float, float]:
    """The number of draws of two sets together, and the share of each."""
    n = a + b
    return n, a / max(n, 1), b / max(n, 1)
