"""Disentanglement, completeness and informativeness (DCI) of codes, by the importances of random forests.

R_jk    the importance of latent j to the forest that predicts factor k,     sum_j R_jk = 1
D = sum_j rho_j (1 - H_F(R_j. / sum_k R_jk)),     rho_j = sum_k R_jk / F,     H_F the entropy to base F
C = mean_k (1 - H_Z(R_.k))
I = mean_k accuracy of factor k's forest on held-out data
"""

__all__ = ["DCI", "disentanglement_completeness_informativeness"]

from typing import NamedTuple

import numpy as np
from torch import Tensor

from pplvm.evaluation.disentanglement.codes_and_levels import codes_and_levels, halves

TREES = 30
"""Of a forest."""

LEAST_LEAF = 5
"""Data in a leaf, so that trees do not split by latents that know nothing of the factor."""


class DCI(NamedTuple):
    """The three scores, and what the first two are made of."""

    disentanglement: float  # 1 where each latent that matters matters to one factor, 0 where none matters
    completeness: float  # 1 where each factor depends on one latent
    informativeness: float  # share of levels that forests predict rightly, on held-out data
    importances: np.ndarray  # R, (Z, F)


def disentanglement_completeness_informativeness(
    codes: Tensor, factors: Tensor, *, trees: int = TREES, seed: int = 0
) -> DCI:
    """DCI: whether a latent matters to one factor, a factor to one latent, and how well codes predict factors.

    Each factor is predicted, as a class, by a random forest of trees that see all latents; importances are decreases
    of Gini's impurity. (Eastwood and Williams have the lasso beside forests, Locatello et al. gradient boosting: scores
    by another regressor do not compare.)

    Arguments:
        codes: (N, Z), posterior means.
        factors: (N, F) integers, the level of each factor.
        trees: of each forest.
        seed: of the forests, and of the halves of the data by which they are fitted and scored.

    Raises:
        ValueError: as of `codes_and_levels`.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(3)).repeat(40, 1)
        >>> found = disentanglement_completeness_informativeness(factors.double(), factors)
        >>> round(found.disentanglement, 9), round(found.completeness, 9), found.informativeness
        (1.0, 1.0, 1.0)

    References:
        Eastwood and Williams, A framework for the quantitative evaluation of disentangled representations, 2018
    """
    from sklearn.ensemble import RandomForestClassifier

    found = codes_and_levels(codes, factors)
    fitted, held_out = halves(len(found.codes), seed)
    columns, accuracies = [], []
    for level in found.levels.T:
        forest = RandomForestClassifier(
            trees, max_features=None, min_samples_leaf=LEAST_LEAF, random_state=seed, n_jobs=1
        )
        forest.fit(found.codes[fitted], level[fitted])
        columns.append(forest.feature_importances_)
        accuracies.append(forest.score(found.codes[held_out], level[held_out]))
    importances = np.stack(columns, 1)
    rows = importances.sum(1)
    shares = rows / max(rows.sum(), np.finfo(rows.dtype).tiny)  # none where no latent tells a forest anything
    return DCI(
        float(shares @ (1 - _entropies(importances.T))),
        float((1 - _entropies(importances)).mean()),
        float(np.mean(accuracies)),
        importances,
    )


def _entropies(weights: np.ndarray) -> np.ndarray:
    """The entropy of each column (n, m), normalized, to base n: (m,); 1 of a column without weight."""
    n, total = len(weights), weights.sum(0)
    p = np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1 / n)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(0) / np.log(n)
