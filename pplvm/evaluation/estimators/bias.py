"""Is a mean zero? Hotelling's test, the verdict, and the smallest bias that the test could have seen.

References:
    Hotelling, The generalization of Student's ratio, 1931
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["POWER", "BiasTest", "bias_test"]

POWER = 0.95
"""The chance of seeing a bias of the size that is called detectable."""


@dataclass(frozen=True)
class BiasTest:
    """What random projections of measured minus reference gradient say."""

    t2: float  # Hotelling's statistic
    p_value: float
    z: Tensor  # (p,), each projection's mean over its standard error
    detectable: float  # smallest relative bias, of the harder side, that is seen with the stated power
    verdict: str  # "unbiased", "biased" or "undecided"


def bias_test(
    mean: Tensor,
    covariance: Tensor,
    draws: int,
    gradient: Tensor,
    alpha: float = 1e-3,
    power: float = POWER,
    tolerance: float = 0.1,
) -> BiasTest:
    """Test the mean of p projections against zero.

    A projection that never varies is no matter of chance: it is exact up to rounding, or plainly biased.

    Arguments:
        mean: (p,), mean deviation from the reference.
        covariance: (p, p), of that mean.
        draws: degrees of freedom of the covariance, plus one.
        gradient: (sides, p), the same projections of the reference gradient, zero outside each row's side; a
            side whose gradient is zero does not count.
        alpha: the chance of calling an unbiased estimator biased.
        power: with which the detectable bias is seen.
        tolerance: "unbiased" is said only if a bias of this fraction of each side's gradient would have been
            seen, wherever else the gradient is large.
    """
    scale = gradient.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    deviations = covariance.diagonal().clamp(min=0).sqrt()
    varies = deviations > ROUNDING * scale
    wrong = ~varies & (mean.abs() > 100 * ROUNDING * scale)
    z = torch.where(varies, mean / deviations.where(varies, torch.ones_like(deviations)), torch.zeros_like(mean))
    z = z.masked_fill(wrong, math.inf)
    p = int(varies.sum())
    if bool(wrong.any()):
        return BiasTest(math.inf, 0.0, z, 0.0, "biased")
    if p == 0:
        return BiasTest(0.0, 1.0, z, 0.0, "unbiased")
    if draws - 1 < p + 1:
        return BiasTest(math.nan, math.nan, z, math.nan, "undecided")
    return _hotelling(
        mean[varies], covariance[varies][:, varies], draws, gradient[:, varies], z, alpha, power, tolerance
    )


ROUNDING = 1e-6
"""Relative rounding of a float32 gradient: deviations below it are arithmetic, not estimation."""


def _inverse(covariance: Tensor) -> tuple[Tensor, int]:
    """The inverse within the directions in which draws differed, and their number.

    Where all draws agree there is nothing to divide by: an event that was too rare to be drawn is missing in the
    mean and in the variance alike, and rounding is all that is left.
    """
    scale = covariance.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    kept = values > SINGULAR * values.max()
    basis = vectors[:, kept] / scale.unsqueeze(1)
    return basis / values[kept] @ basis.T, int(kept.sum())


SINGULAR = 1e-6
"""Share of the largest eigenvalue of a correlation matrix below which a direction counts as constant."""


def _hotelling(
    mean: Tensor,
    covariance: Tensor,
    draws: int,
    gradient: Tensor,
    z: Tensor,
    alpha: float,
    power: float,
    tolerance: float,
) -> BiasTest:
    from scipy import optimize, stats

    inverse, p = _inverse(covariance)
    freedom = draws - 1
    t2 = float(mean @ inverse @ mean)
    factor, second = (freedom - p + 1) / (p * freedom), freedom - p + 1
    p_value = float(stats.f.sf(t2 * factor, p, second))
    critical = stats.f.isf(alpha, p, second)

    def missed(noncentrality: float) -> float:
        return float(stats.ncf.sf(critical, p, second, noncentrality)) - power

    far = 1e4
    needed = float(optimize.brentq(missed, 1e-6, far)) if missed(far) > 0 else math.inf  # type: ignore[arg-type]
    along = [float(side @ inverse @ side) for side in gradient if side.any()]
    detectable = math.sqrt(needed / min(along)) if along and min(along) > 0 else math.inf
    verdict = "biased" if p_value < alpha else "unbiased" if detectable <= tolerance else "undecided"
    return BiasTest(t2, p_value, z, detectable, verdict)
