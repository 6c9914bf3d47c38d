"""The FactorVAE score: whether the latent that varies least tells which factor was held."""

__all__ = ["factor_vae_score"]

import numpy as np
from torch import Tensor

from pplvm.evaluation.disentanglement.codes_and_levels import LEAST_VARIANCE, active_codes, codes_and_levels
from pplvm.evaluation.disentanglement.fixed_factors import factors_that_can_be_fixed, rows_sharing


def factor_vae_score(
    codes: Tensor,
    factors: Tensor,
    *,
    votes: int = 4000,
    group: int = 64,
    least_variance: float = LEAST_VARIANCE,
    seed: int = 0,
) -> float:
    """The FactorVAE score: the accuracy of a majority vote on which factor a group of data shares.

    A factor is chosen, a group is drawn of data that share its level, and the active latent is found whose variance in
    the group is least beside its variance over all data. Half of these votes decide which factor each latent stands
    for, the other half are scored. Latents that no datum moves are left out, as their variance is noise; with none
    left the score is that of guessing, 1/F.

    Arguments:
        codes: (N, Z), posterior means.
        factors: (N, F) integers, the level of each factor.
        votes: to learn from and as many to score.
        group: data in a group, drawn with replacement among those of one level.
        least_variance: that an active latent's means exceed over the data.
        seed: of the draws.

    Raises:
        ValueError: as of `codes_and_levels`, or no two data share a level of a factor.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
        >>> factor_vae_score(factors.double(), factors)
        1.0

    References:
        Kim and Mnih, Disentangling by factorising, 2018, arXiv:1802.05983, section 4
    """
    found = codes_and_levels(codes, factors)
    scaled = active_codes(found.codes, least_variance)
    F, Z = len(found.sizes), scaled.shape[1]
    if Z == 0:
        return 1 / F
    generator = np.random.default_rng(seed)
    learned, scored = np.zeros((Z, F)), np.zeros((Z, F))
    for number in factors_that_can_be_fixed(found.levels, "the FactorVAE score"):
        for table in (learned, scored):
            rows = rows_sharing(found.levels[:, number], -(-votes // F), group, generator)  # (votes / F, group)
            least = scaled[rows].var(1).argmin(1)
            table[:, number] = np.bincount(least, minlength=Z)
    return float(scored[np.arange(Z), learned.argmax(1)].sum() / scored.sum())
