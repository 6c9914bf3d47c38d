"""Correlations between estimators at common random numbers, and the best combination of two."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import xarray as xr

from pplvm.plots.estimator_styles import GREY, label
from pplvm.plots.table import by_target, number, per_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Combination", "best_combination", "combination_sentence", "correlation_map", "has_correlations"]


class Combination(NamedTuple):
    """share * first + (1 - share) * second with minimal variance; share is at least a half."""

    first: str
    second: str
    share: float
    gain: float  # its variance over that of the better of the two


def correlation_map(ds: xr.Dataset, ax: Axes) -> None:
    """A heatmap of correlations between the estimators of each target, best first; noiseless ones left out.

    Arguments:
        ds: what `compare_gradients` returned.
        ax: the axes to draw on.
    """
    varies = per_estimator(ds, "variance")
    groups = {target: [n for n in members if varies[n] > 0] for target, members in by_target(ds).items()}
    names = [name for members in groups.values() for name in members]
    values = ds["correlation"].sel(estimator=names, other=names).transpose("estimator", "other").values
    image = ax.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), value in ((place, values[place]) for place in itertools.product(range(len(names)), repeat=2)):
        text = "" if math.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
        ax.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if abs(value) > 0.6 else "black")
    ax.set_yticks(range(len(names)), [label(name) for name in names], fontsize=9)
    ax.set_xticks(range(len(names)), [label(name) for name in names], fontsize=9, rotation=90)
    for end in itertools.accumulate(len(members) for members in groups.values()):
        ax.axhline(end - 0.5, color=GREY, linewidth=1)
        ax.axvline(end - 0.5, color=GREY, linewidth=1)
    ax.tick_params(length=0)
    ax.set_title("Correlation of gradients at equal seeds", loc="left", fontsize=12)
    ax.figure.colorbar(image, ax=ax, shrink=0.6, aspect=30)


def has_correlations(ds: xr.Dataset) -> bool:
    """Whether the correlation of two noisy estimators is known.

    Arguments:
        ds: what `compare_gradients` returned.
    """
    varying = ds["variance"].values > 0  # (E,)
    if "correlation" not in ds or varying.sum() < 2:
        return False
    return bool(ds["correlation"].notnull().values[varying][:, varying].any())


def best_combination(ds: xr.Dataset) -> Combination | None:
    """The pair of one target, neither biased, whose best combination gains most; None without a pair.

        Var(a g + (1 - a) h) is smallest at a = (Var h - C) / (Var g + Var h - 2 C),   C = tr Cov(g, h)

    Arguments:
        ds: what `compare_gradients` returned.
    """
    variance, verdict = per_estimator(ds, "variance"), per_estimator(ds, "verdict")
    able = {name for name in variance if verdict[name] != "biased" and variance[name] > 0}
    found = [
        combination
        for members in by_target(ds).values()
        for first, second in itertools.combinations([name for name in members if name in able], 2)
        if (combination := _combined(ds, first, second, variance)) is not None
    ]
    return min(found, key=lambda combination: combination.gain, default=None)


def combination_sentence(ds: xr.Dataset) -> str:
    """Describe the result of `best_combination` in words."""
    best = best_combination(ds)
    if best is None:
        return "No two estimators of one target can be combined."
    first, second, share, gain = best
    if gain > 0.95:
        return (
            "No combination of two estimators of one target would have less than 0.95 times the better one's variance."
        )
    sign = "+" if share <= 1 else "−"
    return (
        f"Of all pairs of one target, {first} and {second} gain most: {number(share, 2)} × {first} {sign} "
        f"{number(abs(1 - share), 2)} × {second} has {number(gain, 2)} times the variance of the better of the two, "
        "at the cost of both."
    )


def _combined(ds: xr.Dataset, first: str, second: str, variance: dict[str, float]) -> Combination | None:
    one, two = variance[first], variance[second]
    correlation = float(ds["correlation"].sel(estimator=first, other=second))
    covariance = correlation * math.sqrt(one * two)
    apart = one + two - 2 * covariance  # the variance of their difference
    if not apart > 1e-6 * max(one, two):
        return None
    left = (one * two - covariance**2) / apart
    share = (two - covariance) / apart
    pair = (first, second, share) if share >= 0.5 else (second, first, 1 - share)
    return Combination(*pair, left / min(one, two))
