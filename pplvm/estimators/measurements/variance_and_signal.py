"""Variance, signal-to-noise and bias of one estimator's gradients, pooled over minibatches."""

import math

import torch

from pplvm.estimators.measurements.measurement import Measurement
from pplvm.estimators.parameters import SIDES

__all__ = ["kurtosis_of", "relative_bias", "signal_to_noise", "variance_between", "variance_of"]

NORMAL = 1.96
"""Standard errors to either end of a 95 % interval, where they are known."""


def variance_of(found: list[Measurement]) -> tuple[float, float]:
    """The trace of the covariance within minibatches, and its standard error.

    It is the standard error, widened by Student's quantile over the normal one, as it is itself known from these draws.
    """
    from scipy import stats

    M = len(found)
    variance = sum(float(m.gradient.variance.sum()) for m in found) / M
    error = math.sqrt(sum(float(m.spread.standard_error) ** 2 for m in found)) / M
    freedom = sum(m.gradient.count for m in found) - M
    return variance, error * float(stats.t.ppf(0.975, freedom)) / NORMAL


def kurtosis_of(found: list[Measurement]) -> float:
    """The median kurtosis of the kept entries that vary; n draws of a minibatch cannot show more than n."""
    ratios = []
    for m in found:
        gap = torch.stack(m.entries).double()
        gap = gap - gap.mean(0)
        ratios.append(gap.pow(4).mean(0) / gap.square().mean(0).square())
    kurtosis = torch.stack(ratios).nanmean(0)  # (entries,)
    return float(kurtosis.nanmedian())


def variance_between(found: list[Measurement]) -> float:
    """The trace of the covariance of the mean gradient between minibatches; nan of a single one."""
    if len(found) < 2:
        return math.nan
    means = torch.stack([m.mean for m in found])
    noise = sum(float(m.gradient.error.sum()) for m in found) / len(found)
    return float(means.var(0).sum()) - noise


def signal_to_noise(found: list[Measurement]) -> float:
    """The norm of the mean gradient over the root of the variance, debiased; nan below the floor."""
    noise = sum(float(m.gradient.variance.sum()) for m in found)
    squared = sum(float(m.mean.square().sum()) - float(m.gradient.error.sum()) for m in found)
    if noise == 0:
        return math.inf
    return math.sqrt(squared / noise) if squared > 0 else math.nan


def relative_bias(found: list[Measurement]) -> float:
    """The relative bias of the worse side; nan where neither side is above its noise."""
    return max((_bias_of(side, found) for side in SIDES), key=lambda share: -1.0 if math.isnan(share) else share)


def _bias_of(side: str, found: list[Measurement]) -> float:
    M, inside = len(found), found[0].parameters.side(side)
    squared = float(torch.stack([m.gradient.mean for m in found]).mean(0)[inside].square().sum())
    for m in found:
        squared -= float(m.gradient.error[m.parameters.tensors_of(side)].sum()) / M**2
        if m.reference is not None:
            squared -= float(m.reference.error[inside].sum()) / M**2
    norm = float(torch.stack([m.centre for m in found]).mean(0)[inside].norm())
    return math.sqrt(squared) / norm if norm > 0 and squared > 0 else math.nan
