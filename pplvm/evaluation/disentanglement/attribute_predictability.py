"""SAP: how much better the best latent alone predicts a factor than the second.

SAP = mean_k (S_first,k - S_second,k),     S_jk = balanced accuracy of thresholds on z_j for v_k
"""

__all__ = ["factor_accuracies", "separated_attribute_predictability"]

import numpy as np
from torch import Tensor

from pplvm.evaluation.disentanglement.codes_and_levels import codes_and_levels, halves


def separated_attribute_predictability(codes: Tensor, factors: Tensor, *, seed: int = 0) -> float:
    """SAP: the gap of the best two latents' accuracies, each of a latent that predicts the factor alone.

    Every factor is predicted as a class, by thresholds on one latent: a decision tree with as many leaves as levels,
    fitted to one half of the data and scored on the other. A factor of L levels gives at most 1 - 1/L, as the second
    latent still guesses. (Kumar et al. use thresholds for classes and squared correlations for continuous factors;
    Locatello et al. a linear classifier, which misses the middle levels of a latent.)

    Arguments:
        codes: (N, Z), posterior means.
        factors: (N, F) integers, the level of each factor.
        seed: of the halves.

    Raises:
        ValueError: as of `codes_and_levels`.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(50, 1)
        >>> separated_attribute_predictability(factors.double(), factors) > 0.35
        True

    References:
        Kumar, Sattigeri and Balakrishnan, Variational inference of disentangled latent concepts from unlabeled
        observations, 2018, arXiv:1711.00848
    """
    accuracies = np.sort(factor_accuracies(codes, factors, seed=seed), axis=0)
    return float((accuracies[-1] - accuracies[-2]).mean())


def factor_accuracies(codes: Tensor, factors: Tensor, *, seed: int = 0) -> np.ndarray:
    """The balanced accuracy by which each latent alone predicts each factor on held-out data, (Z, F).

    Arguments, errors: as of `separated_attribute_predictability`.
    """
    from sklearn.tree import DecisionTreeClassifier

    found = codes_and_levels(codes, factors)
    fitted, held_out = halves(len(found.codes), seed)
    table = np.zeros((found.codes.shape[1], len(found.sizes)))
    for j, column in enumerate(found.codes.T[:, :, None]):
        for k, size in enumerate(found.sizes):
            tree = DecisionTreeClassifier(max_leaf_nodes=size, class_weight="balanced", random_state=seed)
            tree.fit(column[fitted], found.levels[fitted, k])
            table[j, k] = _balanced_accuracy(found.levels[held_out, k], tree.predict(column[held_out]))
    return table


def _balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over the levels that occur of the share that is predicted rightly."""
    return float(np.mean([(predicted[true == level] == level).mean() for level in np.unique(true)]))
