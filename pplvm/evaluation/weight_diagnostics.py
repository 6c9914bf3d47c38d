"""Diagnostics of importance weights, datum by datum: effective sample size, largest weight, Pareto k-hat.

    ess_b     = (sum_s w_sb)^2 / (S sum_s w_sb^2)            1 if q is the posterior, 1/S if one draw holds all
    k-hat_b   = shape of the generalized Pareto tail of w_b; moments above 1/k do not exist

References:
    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling, 2024, arXiv:1507.02646
"""

import importlib.util
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.particles.pair import Pair, draw_from_pair, pair_up
from pplvm.particles.random_lower_bounds import require_exact_densities
from pplvm.particles.side_effects import without_side_effects
from pplvm.particles.vectorization_check import why_particles_interact

__all__ = ["FEWEST", "effective_size", "khat_limit", "pareto_khat", "weight_health"]

AT_ONCE = 4_000_000
"""Draws times data times their size in one run of the program: some 16 MB a layer."""

FEWEST = 25
"""Draws of a datum, so that there is a tail."""

SAME = 1e-4
"""Log-weights nearer than this are one value, rounded in float32."""


def weight_health(program: nn.Module, batches: Sequence[Batch], draws: int = 1000, seed: int = 0) -> xr.Dataset:
    """Effective sample size, largest weight and Pareto k-hat of every datum; the random state is restored.

    Arguments:
        program: with methods model(x) and guide(x).
        batches: each (B, ...), or a tuple of it and its conditions, at least one.
        draws: S a datum, at least 25, so that there is a tail.
        seed: of the draws.

    Returns:
        `weight_ess` (a share of the draws), `weight_max` (of all weight) and `weight_khat` by datum; k-hat is nan
        where most of the largest weights repeat values, as under few discrete states: there is no tail to fit.

    Raises:
        ValueError: fewer than 25 draws.
        ProgramError: the program breaks a rule.
    """
    if draws < FEWEST:
        raise ValueError(f"weight_health needs at least {FEWEST} draws a datum, got {draws}")
    parts = [part for batch in batches for part in as_tuple(batch)]
    with without_side_effects(program, parts), torch.no_grad():
        torch.manual_seed(seed)
        log_weights = torch.cat([_log_weights(program, as_tuple(batch), draws) for batch in batches], 1)  # (S, N)
    khat = xr.DataArray(pareto_khat(log_weights.T.numpy()), dims="datum")
    return xr.Dataset(
        {
            "weight_ess": ("datum", (effective_size(log_weights) / draws).numpy()),
            "weight_max": ("datum", log_weights.softmax(0).max(0).values.numpy()),
            "weight_khat": khat.assign_attrs(draws=draws, limit=khat_limit(draws)),
        }
    )


def effective_size(log_weights: Tensor) -> Tensor:
    """The effective sample size of log-weights (S, ...): from 1 to S, and 0 where all weights are zero.

    Example:
        >>> effective_size(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]))
        tensor([2., 1.])
    """
    sizes = 1 / log_weights.softmax(0).square().sum(0)
    return sizes.where(log_weights.amax(0) > -torch.inf, 0.0)


def pareto_khat(log_weights: np.ndarray) -> np.ndarray:
    """Pareto k-hat (N,) of rows of log-weights (N, S), S at least 25; nan where there is no tail to fit.

    Ties among the largest would be taken for a heavy tail, and draws of no weight at all have none.

    Example:
        >>> bool(pareto_khat(np.random.default_rng(0).exponential(size=(1, 1000))) > 0.7)  # weights of 1 / uniform
        True
    """
    draws = log_weights.shape[1]
    tail = math.ceil(min(draws / 5, 3 * math.sqrt(draws)))  # which ArviZ fits
    highest = np.sort(log_weights, 1)[:, -tail - 1 :]
    with np.errstate(invalid="ignore"):  # of two weights that are zero
        fit = ((np.diff(highest, axis=1) > SAME).mean(1) > 0.5) & np.isfinite(highest).all(1)
    khat = np.full(len(log_weights), np.nan)
    if fit.any():
        khat[fit] = _psis(log_weights[fit] - log_weights[fit].max(1, keepdims=True))
    return khat


def khat_limit(draws: int) -> float:
    """The k-hat above which a number of draws does not suffice.

    Example:
        >>> round(khat_limit(1000), 3), khat_limit(100_000)
        (0.667, 0.7)
    """
    return min(1 - 1 / math.log10(draws), 0.7)


def _log_weights(program: nn.Module, args: tuple[Tensor, ...], draws: int) -> Tensor:
    """(S, B), float64, on the CPU."""
    pair = pair_up(program.model, program.guide, args, {})
    require_exact_densities(pair, args, {}, "importance sampling")
    at_once = 1 if why_particles_interact(pair, args, {}) else max(1, min(draws, AT_ONCE // args[0].numel()))
    counts = [at_once] * (draws // at_once) + [draws % at_once] * bool(draws % at_once)
    return torch.cat([_drawn(pair, args, count) for count in counts])


def _drawn(pair: Pair, args: tuple[Tensor, ...], count: int) -> Tensor:
    return draw_from_pair(pair, count, args, {}).log_weights.double().cpu()


def _psis(log_weights: np.ndarray) -> np.ndarray:
    """ArviZ's k-hat; from version 1 on it takes log inverse weights."""
    if importlib.util.find_spec("arviz_stats"):
        from arviz_stats.base import array_stats  # pyright: ignore[reportMissingImports]

        return np.asarray(array_stats.psislw(-log_weights)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the version to come
        import arviz
    return np.asarray(arviz.psislw(log_weights)[1])
