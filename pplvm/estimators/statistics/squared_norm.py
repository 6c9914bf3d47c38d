"""Test of the mean of a long vector by its squared norm, which sees all directions alike.

    excess = |m|^2 - tr S,    of mean |b|^2 and variance 2 tr S^2 + 4 b S b

m is the mean deviation from the reference, b the bias, S the covariance of m. Without bias the excess is a sum of
chi-squares, weighed by the eigenvalues of S and centred: near sqrt(tr S^2 / d) (chi-square_d - d), of the same first
three moments where d = (tr S^2)^3 / (tr S^3)^2.

References:
    Bai and Saranadasa, Effect of high dimension: by an example of a two sample problem, 1996
    Chen and Qin, A two-sample test for high-dimensional data with applications to gene-set testing, 2010,
    arXiv:1002.4547
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["MeanNoise"]

MOST = 1e3
"""Degrees from which on a chi-square is normal enough."""


@dataclass(frozen=True)
class MeanNoise:
    """The noise of a mean vector, given the spectrum of its covariance S.

    Arguments:
        trace: tr S.
        frobenius: the root of tr S^2; no estimate below it holds the level.
        skewness: tr S^3 / (tr S^2)^1.5, from 0 to 1, the latter where all noise is in one direction.
        freedom: degrees of freedom of these estimates.
    """

    trace: float
    frobenius: float
    skewness: float
    freedom: float

    def p_value(self, excess: float) -> float:
        """The probability of so large an excess without bias."""
        from scipy import stats

        d = self._degrees
        return float(stats.f.sf(1 + excess / (self.frobenius * math.sqrt(d)), d, self.freedom))

    def detectable(self, alpha: float, power: float) -> float:
        """The smallest |b|, in any direction, that a test at level alpha detects with this power.

        Along the noisiest direction an excess of |b|^2 has variance 2 tr S^2 + 4 |b|^2 s, s the largest eigenvalue of
        S, which is at most the cube root of tr S^3.

        Example:
            >>> quiet, loud = MeanNoise(1.0, 0.1, 0.1, 500), MeanNoise(1.0, 1.0, 1.0, 500)
            >>> quiet.detectable(0.01, 0.95) < loud.detectable(0.01, 0.95) / 2
            True
        """
        from scipy import stats

        d, z = self._degrees, NormalDist().inv_cdf(power)
        critical = self.frobenius * math.sqrt(d) * (float(stats.f.isf(alpha, d, self.freedom)) - 1)
        spread = 2 * z**2 * self.frobenius * self.skewness ** (1 / 3)
        root = math.sqrt(spread**2 + 2 * spread * critical + 2 * (z * self.frobenius) ** 2)
        return math.sqrt(critical + spread + root)

    @property
    def _degrees(self) -> float:
        return min(self.skewness**-2, MOST) if self.skewness > 0 else MOST
