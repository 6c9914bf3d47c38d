"""A plot and a sentence on the health of importance weights: Pareto k-hat and effective sample size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pplvm.plots.estimator_styles import GREY, OKABE_ITO, PALE, despine, text_beside_axes
from pplvm.plots.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["has_tails", "weight_scatter", "weights_sentence"]


def has_tails(ds: xr.Dataset) -> bool:
    """Whether the weights of the data were measured and have a tail to fit.

    Arguments:
        ds: with or without what `weight_health` returned.
    """
    return "weight_khat" in ds and bool(ds["weight_khat"].notnull().any())


def weight_scatter(ds: xr.Dataset, ax: Axes) -> None:
    """Pareto k-hat of every datum against its relative effective sample size.

    Arguments:
        ds: with what `weight_health` returned.
        ax: the axes to draw on.
    """
    ess, khat, limit = ds["weight_ess"].values, ds["weight_khat"].values, _limit(ds)
    despine(ax)
    ax.grid(color=PALE, zorder=0)
    ax.set(xscale="log", xlabel="effective draws over draws", ylabel="Pareto k-hat of the weights")
    bad = khat > limit
    none = np.isnan(khat)
    for chosen, colour, mark in ((~bad & ~none, OKABE_ITO[0], "o"), (bad, OKABE_ITO[1], "D")):
        ax.plot(ess[chosen], khat[chosen], mark, markersize=4, alpha=0.6, color=colour, zorder=2)
    ax.plot(ess[none], np.full(none.sum(), 0.02), "|", color=GREY, transform=ax.get_xaxis_transform(), zorder=2)
    _percent(ax)
    ax.axhline(limit, color=GREY, linewidth=1.2, linestyle="--")
    text_beside_axes(ax, limit, f"too heavy\nabove {limit:.2f}", 5, color=GREY)
    ax.set_title("Health of the importance weights, a point a datum", loc="left", fontsize=12)


def weights_sentence(ds: xr.Dataset) -> str:
    """Summarize the importance weights of the data in a sentence.

    Arguments:
        ds: with what `weight_health` returned.
    """
    draws = int(ds["weight_khat"].attrs["draws"])
    khat = ds["weight_khat"].dropna("datum")
    ess, largest = float(ds["weight_ess"].median()), 100 * float(ds["weight_max"].median())
    worth = (
        f"Weights of {draws:,} draws a datum: at the median they are worth {number(draws * ess, 2)} draws and the "
        f"largest holds {number(largest, 2)} % of the weight; "
    )
    if not khat.size:
        return worth + "no datum has a tail for k-hat to fit, because the largest weights repeat a few values."
    among = "of the data" if khat.size == ds.sizes["datum"] else f"of the {khat.size} data with a tail to fit"
    bad = number(100 * float((khat > _limit(ds)).mean()), 2)
    return worth + f"{bad} % {among} have a k-hat above {_limit(ds):.2f}, too heavy for importance sampling."


def _percent(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    ax.xaxis.set_minor_locator(NullLocator())


def _limit(ds: xr.Dataset) -> float:
    return float(ds["weight_khat"].attrs["limit"])
