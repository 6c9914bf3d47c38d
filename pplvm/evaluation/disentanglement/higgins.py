"""Higgins' score: whether a linear classifier tells from differences of codes which factor was held."""

__all__ = ["higgins_score"]

import warnings

import numpy as np
from torch import Tensor

from pplvm.evaluation.disentanglement.codes_and_levels import LEAST_VARIANCE, active_codes, codes_and_levels
from pplvm.evaluation.disentanglement.fixed_factors import factors_that_can_be_fixed, rows_sharing


def higgins_score(
    codes: Tensor,
    factors: Tensor,
    *,
    points: int = 2000,
    pairs: int = 64,
    least_variance: float = LEAST_VARIANCE,
    seed: int = 0,
) -> float:
    """Higgins' score: the accuracy of a linear classifier on which factor two data of each pair share.

    A point is the mean of |z - z'| over pairs that share the level of one factor and differ in the others as the data
    do; a logistic regression of half of the points is scored on the other half. It is near 1 for most codes that keep
    the factors, rotated ones too: read the other scores beside it. Latents that no datum moves are left out; with none
    left the score is that of guessing, 1/F.

    Arguments:
        codes: (N, Z), posterior means.
        factors: (N, F) integers, the level of each factor.
        points: to learn from and as many to score.
        pairs: of a point.
        least_variance: that an active latent's means exceed over the data.
        seed: of the draws.

    Raises:
        ValueError: as of `codes_and_levels`, or no two data share a level of a factor.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
        >>> higgins_score(factors.double(), factors)
        1.0

    References:
        Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed and Lerchner, beta-VAE: learning basic visual
        concepts with a constrained variational framework, 2017
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = codes_and_levels(codes, factors)
    scaled, F = active_codes(found.codes, least_variance), len(found.sizes)
    if scaled.shape[1] == 0:
        return 1 / F
    generator, parts = np.random.default_rng(seed), ([], [])
    for number in factors_that_can_be_fixed(found.levels, "Higgins' score"):
        for part in parts:
            rows = rows_sharing(found.levels[:, number], -(-points // F), 2 * pairs, generator)  # (points / F, 2 pairs)
            part.append(np.abs(scaled[rows[:, :pairs]] - scaled[rows[:, pairs:]]).mean(1))
    answers = np.repeat(np.arange(F), len(parts[0][0]))
    fitted, held_out = (np.concatenate(part) for part in parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of points that a plane parts, whose weights may grow on
        classifier = LogisticRegression(C=100.0, max_iter=500).fit(fitted, answers)
    return float(classifier.score(held_out, answers))
