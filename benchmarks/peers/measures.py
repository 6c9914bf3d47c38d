"""What is told of a contestant: the variance of its gradient, its distance from the exact one."""

import torch
from torch import Tensor

from benchmarks.contestants import Contestant

__all__ = ["draws", "threshold", "trace_of_covariance", "worst_z"]

ROUNDING = 1e-5
"""Relative error that float32 is forgiven; without it the exact estimator would be judged by its last digit."""


def draws(contestant: Contestant, replicates: int) -> Tensor:
    """Gradients of minus the elbo per datum, (M, P)."""
    return torch.stack([contestant.gradient() for _ in range(replicates)]).double()


def trace_of_covariance(gradients: Tensor) -> tuple[float, float]:
    """The trace of the covariance of gradients (M, P), and its standard error."""
    M = len(gradients)
    squares = (gradients - gradients.mean(0)).square().sum(-1) * M / (M - 1)  # (M,)
    return float(squares.mean()), float(squares.std()) / M**0.5


def worst_z(gradients: Tensor, exact: Tensor) -> float:
    """The largest of |mean - exact| over parameters, in standard errors of the mean."""
    error = gradients.std(0) / len(gradients) ** 0.5
    floor = ROUNDING * exact.abs().max()
    return float(((gradients.mean(0) - exact) / (error.square() + floor.square()).sqrt()).abs().max())


def threshold(parameters: int, replicates: int, false_alarm: float = 1e-4) -> float:
    """What `worst_z` of an unbiased estimator passes with probability `false_alarm` at most."""
    from scipy.stats import t

    return float(t.isf(false_alarm / (2 * parameters), replicates - 1))
