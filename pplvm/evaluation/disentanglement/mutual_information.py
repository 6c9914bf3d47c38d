"""The mutual information of each latent and each factor, and the gap between the best two latents of a factor.

I(z_j; v_k) = sum_{b, l} p(b, l) log p(b, l) / (p(b) p(l)),     b the bin of z_j, l the level of v_k

MIG = mean_k (I(z_first; v_k) - I(z_second; v_k)) / H(v_k)
"""

__all__ = ["binned", "factor_entropies", "factor_information", "mutual_information_gap"]

import numpy as np
from torch import Tensor

from pplvm.evaluation.disentanglement.codes_and_levels import codes_and_levels

BINS = 20
"""Of equal width, as Locatello et al. have it."""


def mutual_information_gap(codes: Tensor, factors: Tensor, *, bins: int = BINS) -> float:
    """MIG: how much more the best latent tells of a factor than the second, as a share of the factor's entropy.

    It is 1 where each factor has one latent that determines it and no other that knows of it, and 0 where two latents
    know as much. The mutual information is that of the histogram, which is biased upwards by about
    (bins - 1) (levels - 1) / 2N nats, for both latents alike.

    Arguments:
        codes: (N, Z), posterior means; samples give smaller scores, so that the two do not compare.
        factors: (N, F) integers, the level of each factor.
        bins: of equal width over each latent's range.

    Raises:
        ValueError: as of `codes_and_levels`, or there are fewer than two bins.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
        >>> round(mutual_information_gap(factors.double(), factors), 9)
        1.0

    References:
        Chen, Li, Grosse and Duvenaud, Isolating sources of disentanglement in variational autoencoders, 2018,
        arXiv:1802.04942
        Locatello, Bauer, Lucic, Raetsch, Gelly, Schoelkopf and Bachem, Challenging common assumptions in the
        unsupervised learning of disentangled representations, 2019, arXiv:1811.12359
    """
    information = np.sort(factor_information(codes, factors, bins=bins), axis=0)
    return float(((information[-1] - information[-2]) / factor_entropies(factors)).mean())


def factor_information(codes: Tensor, factors: Tensor, *, bins: int = BINS) -> np.ndarray:
    """The mutual information of each latent's bin and each factor in nats, (Z, F).

    Arguments, errors: as of `mutual_information_gap`.
    """
    if bins < 2:
        raise ValueError(f"mutual information needs at least 2 bins, got {bins}")
    found = codes_and_levels(codes, factors)
    table = [
        [_information(column, level, bins, size) for level, size in zip(found.levels.T, found.sizes, strict=True)]
        for column in binned(found.codes, bins).T
    ]
    return np.array(table)


def factor_entropies(factors: Tensor) -> np.ndarray:
    """The entropy of each factor's levels in nats, (F,)."""
    columns = factors.numpy(force=True).T
    counts = [np.unique(column, return_counts=True)[1] / len(column) for column in columns]
    return np.array([-(p * np.log(p)).sum() for p in counts])


def binned(codes: np.ndarray, bins: int) -> np.ndarray:
    """The number of each code's bin, from 0, of bins with equal width over the range of its latent: (N, Z)."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum(((codes - low) / width * bins).astype("i8"), bins - 1)


def _information(column: np.ndarray, level: np.ndarray, bins: int, size: int) -> float:
    joint = np.bincount(column * size + level, minlength=bins * size).reshape(bins, size) / len(column)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())
