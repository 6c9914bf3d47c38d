"""Codes and levels of factors as numpy arrays, checked and numbered from 0."""

__all__ = ["LEAST_VARIANCE", "active_codes", "codes_and_levels", "halves"]

from typing import NamedTuple

import numpy as np
from torch import Tensor

LEAST_VARIANCE = 0.01
"""Of an active latent's means over the data, as active units have it (Burda, Grosse and Salakhutdinov, 2016)."""


class CodesAndLevels(NamedTuple):
    """Codes and levels of the same N data."""

    codes: np.ndarray  # (N, Z) float64
    levels: np.ndarray  # (N, F) integers from 0 to sizes - 1, each of which occurs
    sizes: tuple[int, ...]  # of levels, F


def codes_and_levels(codes: Tensor, factors: Tensor) -> CodesAndLevels:
    """Check codes (N, Z) and factors (N, F), and number the levels of each factor from 0.

    Raises:
        ValueError: they are no two tables of the same data; a code is not finite; factors are no integers; there are
            fewer than two latents or factors, or a factor has one level only.
    """
    if codes.dim() != 2 or factors.dim() != 2 or len(codes) != len(factors):
        raise ValueError(
            f"codes have shape {tuple(codes.shape)} and factors {tuple(factors.shape)}: give (N, Z) and (N, F) of the "
            "same N data"
        )
    if factors.is_floating_point() or factors.is_complex():
        raise ValueError(f"factors are {factors.dtype}: give the number of each factor's level, as integers")
    if not bool(codes.isfinite().all()):
        raise ValueError("codes are not finite: check the program")
    if codes.shape[1] < 2 or factors.shape[1] < 2:
        few = f"{codes.shape[1]} latents" if codes.shape[1] < 2 else f"{factors.shape[1]} factors"
        raise ValueError(
            f"scores of disentanglement compare latents and factors, and there are {few}: give two or more"
        )
    numbered = [np.unique(column, return_inverse=True) for column in factors.numpy(force=True).T]
    sizes = tuple(len(values) for values, _ in numbered)
    if 1 in sizes:
        raise ValueError(f"factor {sizes.index(1)} has one level in these data: leave it out")
    levels = np.stack([inverse.reshape(-1) for _, inverse in numbered], 1)
    return CodesAndLevels(codes.double().numpy(force=True), levels, sizes)


def active_codes(codes: np.ndarray, least_variance: float = LEAST_VARIANCE) -> np.ndarray:
    """The columns of codes (N, Z) that vary by more over the data, each divided by its standard deviation."""
    variances = codes.var(0)
    active = variances > least_variance
    return codes[:, active] / np.sqrt(variances[active])


def halves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the data to fit on and of those to score on, half each, by the seed."""
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 2], order[count // 2 :]
