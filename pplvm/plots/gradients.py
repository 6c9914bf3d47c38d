"""Figures of a gradient comparison: work, alignment with the reference, and all others, drawn or saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pplvm.plots.correlations import correlation_map, has_correlations
from pplvm.plots.estimator_styles import (
    GREY,
    PALE,
    annotate_row,
    estimator_styles,
    legend_handles,
    name_rows,
    plain_ticks,
    text_beside_axes,
)
from pplvm.plots.signal_to_noise import has_signal, snr_figure
from pplvm.plots.table import number, per_estimator, relative_work
from pplvm.plots.weight_diagnostics import has_tails, weight_scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figures_left_out", "forest", "gradient_figures", "save_figures", "work_bars"]

DOTS_PER_INCH = 150
NAMES = ("work", "snr", "forest", "correlation", "weights")


def work_bars(ds: xr.Dataset, ax: Axes) -> None:
    """Bars of variance x milliseconds with 95 % intervals, under a heading for every target.

    Arguments:
        ds: what `compare_gradients` returned.
        ax: the axes to draw on; room for the factors is taken to their right.
    """
    work, relative, verdict = per_estimator(ds, "work"), relative_work(ds), per_estimator(ds, "verdict")
    low, high = per_estimator(ds, "work_low"), per_estimator(ds, "work_high")
    names = [name for name, value in work.items() if 0 < value < math.inf]
    ends = [v[name] for name in names for v in (work, low, high) if 0 < v[name] < math.inf] or [1.0]
    left, right = min(ends) / 1.8, max(ends) * 1.4
    ax.set(xscale="log", xlim=(left, right), xlabel="variance × milliseconds per gradient (95 % interval)")
    plain_ticks(ax.xaxis, [left, right])
    rows = name_rows(ds, ax)
    for name in names:
        values = (work[name], low[name], high[name])
        _bar(ax, rows[name], values, left, estimator_styles(ds)[name]["color"], verdict[name] == "biased")
    for name, y in rows.items():
        factor = "no figure" if math.isnan(relative[name]) else f"{number(relative[name])}×"
        annotate_row(ax, y, factor, verdict[name])
    text_beside_axes(ax, 0.0, "× the best", 62, ha="right", color=GREY, style="italic")
    ax.set_title("Work to reach a given precision: further left is better", loc="left", fontsize=12)


def forest(ds: xr.Dataset, ax: Axes) -> None:
    """A forest plot of the mean gradient's alignment with the reference, with 95 % intervals; 1 is unbiased.

    Arguments:
        ds: what `compare_gradients` returned.
        ax: the axes to draw on; what lies further than 1.5 from 1 becomes an arrow at the rim.
    """
    reach, reference = _reach(ds), per_estimator(ds, "reference")
    ax.axvline(1.0, color=GREY, linewidth=1.2, zorder=1)
    ax.set(xlim=(1 - reach, 1 + reach), xlabel="⟨mean gradient, reference⟩ / ‖reference‖²   (1 = unbiased)")
    rows = name_rows(ds, ax)
    ax.text(1.0, 0.0, "  unbiased", color=GREY, fontsize=9.5, va="center")
    for side, shift, filled in (("model", -0.17, True), ("guide", 0.17, False)):
        value, error = (per_estimator(ds.sel(side=side), v) for v in ("alignment", "alignment_se"))
        for name, y in rows.items():
            if math.isfinite(value[name]) and math.isfinite(error[name]):
                _point(
                    ax,
                    y + shift,
                    (value[name], 1.96 * error[name]),
                    _dot(estimator_styles(ds)[name]["color"], filled),
                    reach,
                )
            else:
                place: dict[str, Any] = {
                    "transform": ax.get_yaxis_transform(),
                    "va": "center",
                    "fontsize": 8,
                    "color": GREY,
                }
                missing = "reference for" if reference[name] == "none" else "gradient of"
                ax.text(0.01, y + shift, f"no {missing} the {side}", **place)
        ax.plot([], [], label=f"{side}'s parameters", linestyle="none", **_dot(GREY, filled))
    for name, y in rows.items():
        annotate_row(ax, y, "", per_estimator(ds, "verdict")[name])
    ax.legend(loc="upper left", bbox_to_anchor=(0.99, 1.03), frameon=False, fontsize=9)
    ax.set_title("Size of the mean gradient along the reference", loc="left", fontsize=12)


def gradient_figures(ds: xr.Dataset) -> dict[str, Figure]:
    """All figures with data: "work", "snr", "forest", "correlation", "weights".

    Arguments:
        ds: what `compare_gradients` returned.
    """
    from pplvm.plots.inline_figure import InlineFigure

    empty = figures_left_out(ds)
    lines = ds.sizes["estimator"] + len(set(per_estimator(ds, "target").values()))
    side = 3.4 + 0.36 * ds.sizes["estimator"]
    drawn = (
        ("work", work_bars, (9.5, 1.9 + 0.36 * lines)),
        ("forest", forest, (9.5, 2.1 + 0.42 * lines)),
        ("correlation", correlation_map, (side + 1.2, side)),
        ("weights", weight_scatter, (8, 4.6)),
    )
    figures: dict[str, Figure] = {} if "snr" in empty else {"snr": snr_figure(ds)}
    for name, draw, size in drawn:
        if name not in empty:
            figures[name] = figure = InlineFigure(figsize=size, layout="constrained")
            draw(ds, figure.subplots())
            if name in ("work", "forest"):
                handles = legend_handles(ds, hatched=name == "work")
                figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return {name: figures[name] for name in NAMES if name in figures}


def figures_left_out(ds: xr.Dataset) -> dict[str, str]:
    """Why a figure is not drawn, by its name.

    Arguments:
        ds: what `compare_gradients` returned.
    """
    work = ds["work"].values
    reasons = {
        "work": ("no estimator has a variance and a time above zero", (np.isfinite(work) & (work > 0)).any()),
        "snr": ("no signal was measured against the number of particles (--sweep K=1,4,16)", has_signal(ds)),
        "forest": (
            "no estimator was held against a reference",
            np.isfinite(ds["alignment"] * ds["alignment_se"]).any(),
        ),
        "correlation": ("fewer than two estimators have noise", has_correlations(ds)),
        "weights": ("no datum's weights have a tail that k-hat could be fitted to", has_tails(ds)),
    }
    return {name: why for name, (why, has_data) in reasons.items() if not bool(has_data)}


def save_figures(ds: xr.Dataset, directory: str | Path) -> list[Path]:
    """Write work.png, snr.png, forest.png, correlation.png and weights.png, those that hold data.

    Arguments:
        ds: what `compare_gradients` returned.
        directory: the folder to write into, made if need be.

    Returns:
        The paths, in this order.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {folder / f"{name}.png": figure for name, figure in gradient_figures(ds).items()}
    for path, figure in figures.items():
        figure.savefig(path, dpi=DOTS_PER_INCH)
    return list(figures)


def _bar(ax: Axes, y: float, values: tuple[float, float, float], left: float, colour: str, biased: bool) -> None:
    value, low, high = values
    kind: dict[str, Any] = {"color": colour}
    if biased:
        kind = {"facecolor": PALE, "edgecolor": colour, "hatch": "////", "linewidth": 0.8}
    ax.barh(y, value - left, left=left, height=0.62, zorder=2, **kind)
    if low <= value <= high < math.inf:
        around = [[value - max(low, left)], [high - value]]
        # White beneath black: the interval stays visible on a black bar and on a hatched one.
        for colour, width in (("white", 3.4), ("#333333", 1.4)):
            ax.errorbar(value, y, xerr=around, color=colour, elinewidth=width, capsize=0, zorder=3)


def _reach(ds: xr.Dataset) -> float:
    """The half-width of the forest plot's axis around 1: all intervals, at most 1.5."""
    error = ds["alignment_se"].fillna(0.0)
    ends = (abs(ds["alignment"] - 1) + 1.96 * error).values  # (E, side)
    return float(np.clip(1.1 * np.max(ends, where=np.isfinite(ends), initial=0.0), 0.02, 1.5))


def _dot(colour: str, filled: bool) -> dict[str, Any]:
    return {"marker": "o", "markersize": 6, "color": colour, "markerfacecolor": colour if filled else "white"}


def _point(ax: Axes, y: float, estimate: tuple[float, float], dot: dict[str, Any], reach: float) -> None:
    """A point with its interval, or an arrow with its value where it lies outside of the axes."""
    value, half = estimate
    if abs(value - 1) <= reach:
        ax.errorbar(value, y, xerr=half, elinewidth=1.8, zorder=3, **dot)
        return
    side = 1 if value > 1 else -1
    rim = 1 + side * reach
    arrow: dict[str, Any] = dot | {"marker": ">" if side > 0 else "<"}
    ax.plot(rim, y, clip_on=False, zorder=3, **arrow)
    place: dict[str, Any] = {"xytext": (-8 * side, 0), "textcoords": "offset points", "va": "center"}
    ax.annotate(number(value, 2), (rim, y), ha="right" if side > 0 else "left", color=GREY, fontsize=8, **place)
