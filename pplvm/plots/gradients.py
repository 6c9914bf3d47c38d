"""Figures of a gradient comparison: work, signal-to-noise against particles, alignment with the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pplvm.plots.correlations import correlation_map
from pplvm.plots.looks import GREY, PALE, beside, label, looks, name_rows, remark, tidy
from pplvm.plots.table import number, per_estimator, ranking, relative_work
from pplvm.plots.weights import weight_scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["forest", "save_figures", "snr_against_particles", "work_bars"]

DOTS_PER_INCH = 150
FLOOR = "floor of the estimate"


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
    rows = name_rows(ds, ax)
    for name in names:
        values = (work[name], low[name], high[name])
        _bar(ax, rows[name], values, left, looks(ds)[name]["color"], verdict[name] == "biased")
    for name, y in rows.items():
        factor = "no figure" if math.isnan(relative[name]) else f"{number(relative[name])}×"
        remark(ax, y, factor, verdict[name])
    beside(ax, 0.0, "× the best", 62, ha="right", color=GREY, style="italic")
    ax.set_title("Work to reach a given precision: further left is better", loc="left", fontsize=12)


def snr_against_particles(ds: xr.Dataset, axes: Sequence[Axes]) -> None:
    """Signal-to-noise ratio of the gradient against the number of particles, with the slopes of theory.

    The slopes +1/2 (model) and -1/2 (guide) are those of the reparametrised importance-weighted bound.
    Hollow points lie below what can be told from zero; one that was not positive is drawn at that floor.

    Arguments:
        ds: what `compare_gradients` returned.
        axes: two, for the model's and the guide's parameters; the legend goes to the right of the second.

    References:
        Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh, "Tighter Variational Bounds are Not Necessarily
        Better", 2018, arXiv:1802.04537.
    """
    handles: dict[str, Any] = {}
    for ax, side in zip(axes, ("model", "guide"), strict=True):
        handles |= _snr_panel(ds.sel(side=side), ax, looks(ds))
        ax.set_title(f"Gradient of the {side}'s parameters", loc="left", fontsize=12)
        ax.set_xlabel("particles K")
    axes[0].set_ylabel("signal-to-noise ratio of one gradient")
    if handles:
        order = [name for name in (*ranking(ds), FLOOR) if name in handles]
        verdict = per_estimator(ds, "verdict")
        labels = [label(name) + (" (biased)" if verdict.get(name) == "biased" else "") for name in order]
        place: dict[str, Any] = {
            "loc": "upper left",
            "bbox_to_anchor": (1.02, 1.02),
            "frameon": False,
            "fontsize": 9,
        }
        axes[-1].legend([handles[name] for name in order], labels, **place)


def forest(ds: xr.Dataset, ax: Axes) -> None:
    """Alignment of the mean gradient with the reference, 95 % intervals, model and guide; 1 is unbiased.

    Arguments:
        ds: what `compare_gradients` returned.
        ax: the axes to draw on; what lies further than 1.5 from 1 becomes an arrow at the rim.
    """
    reach = _reach(ds)
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
                    _dot(looks(ds)[name]["color"], filled),
                    reach,
                )
            else:
                place: dict[str, Any] = {
                    "transform": ax.get_yaxis_transform(),
                    "va": "center",
                    "fontsize": 8,
                    "color": GREY,
                }
                ax.text(0.01, y + shift, f"no gradient of the {side}", **place)
        ax.plot([], [], label=f"{side}'s parameters", linestyle="none", **_dot(GREY, filled))
    for name, y in rows.items():
        remark(ax, y, "", per_estimator(ds, "verdict")[name])
    ax.legend(loc="upper left", bbox_to_anchor=(0.99, 1.03), frameon=False, fontsize=9)
    ax.set_title("Size of the mean gradient along the reference", loc="left", fontsize=12)


def save_figures(ds: xr.Dataset, directory: str | Path) -> list[Path]:
    """Write work.png, snr.png, forest.png and, where they were measured, correlation.png and weights.png.

    Arguments:
        ds: what `compare_gradients` returned.
        directory: the folder to write into, made if need be.

    Returns:
        The paths, in this order.
    """
    from matplotlib.figure import Figure

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ds.sizes["estimator"] + len(set(per_estimator(ds, "target").values()))
    work = Figure(figsize=(9.5, 1.5 + 0.36 * lines), layout="constrained")
    work_bars(ds, work.subplots())
    snr = Figure(figsize=(11, max(4.4, 1.6 + 0.2 * ds.sizes["estimator"])), layout="constrained")
    snr_against_particles(ds, snr.subplots(1, 2, sharey=True))
    alignment = Figure(figsize=(9.5, 1.7 + 0.42 * lines), layout="constrained")
    forest(ds, alignment.subplots())
    figures = {folder / "work.png": work, folder / "snr.png": snr, folder / "forest.png": alignment}
    if "correlation" in ds and (ds["variance"] > 0).sum() > 1:
        side = 3.4 + 0.36 * ds.sizes["estimator"]
        figures[folder / "correlation.png"] = together = Figure(figsize=(side + 1.2, side), layout="constrained")
        correlation_map(ds, together.subplots())
    if "weight_khat" in ds:
        figures[folder / "weights.png"] = health = Figure(figsize=(8, 4.6), layout="constrained")
        weight_scatter(ds, health.subplots())
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


def _snr_panel(ds: xr.Dataset, ax: Axes, look: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Draw one side; what to show in the legend, by name."""
    particles = ds["k"].values.astype(float)  # (k,)
    snr = ds["sweep_snr"].transpose("estimator", "k").values  # (E, k)
    floor = ds["sweep_floor"].transpose("estimator", "k").values  # (E, k)
    height = np.where(snr > 0, snr, floor)  # (E, k)
    tidy(ax)
    if not (height > 0).any():
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        return {}
    ax.set(xscale="log", yscale="log")
    ax.grid(color=PALE, zorder=0)
    handles = {}
    for i, name in enumerate(map(str, ds["estimator"].values)):
        if (seen := height[i] > 0).any():
            hollow = ~(snr[i] >= floor[i]) & np.isfinite(floor[i])  # (k,)
            handles[name] = _snr_line(ax, particles[seen], height[i][seen], hollow[seen], look[name])
    _slopes(ax, particles, height)
    return handles | _floor(ax, particles, floor)


def _snr_line(ax: Axes, x: np.ndarray, y: np.ndarray, hollow: np.ndarray, look: dict[str, Any]) -> Any:
    ax.plot(x, y, color=look["color"], linestyle=look["linestyle"], linewidth=1.6, zorder=3)
    kind: dict[str, Any] = look | {"linestyle": "none", "markersize": 6, "zorder": 4}
    ax.plot(x[~hollow], y[~hollow], **kind)
    ax.plot(x[hollow], y[hollow], markerfacecolor="white", **kind)
    return ax.plot([], [], **look)[0]


def _floor(ax: Axes, particles: np.ndarray, floor: np.ndarray) -> dict[str, Any]:
    """A dashed line at the highest floor, shaded down to the lowest where estimators differ."""
    seen = (floor > 0).any(axis=0)  # (k,)
    if not seen.any():
        return {}
    known = np.where(floor > 0, floor, np.nan)[:, seen]  # (E, k)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)  # (k,)
    ax.fill_between(particles[seen], low, high, color=PALE, linewidth=0, zorder=1)
    return {FLOOR: ax.plot(particles[seen], high, "--", color=GREY, linewidth=1.2)[0]}


def _slopes(ax: Axes, particles: np.ndarray, height: np.ndarray) -> None:
    """Grey lines of slope +1/2 and -1/2 from the middle of the points at the fewest particles."""
    ax.set_xticks(particles, [f"{k:g}" for k in particles])
    ax.minorticks_off()
    first, last = particles.min(), particles.max()
    ax.set_xlim(first / 1.25, last * 1.25)
    if first == last:
        return
    points = np.where(height > 0, height, np.nan)[:, np.argsort(particles)]  # (E, k)
    column = points[:, np.isfinite(points).any(axis=0)][:, 0]  # (E,)
    start = math.exp(np.nanmean(np.log(column)))
    ax.set_xlim(first / 1.25, last * (last / first) ** 0.2)
    for power, law in ((0.5, "∝ √K"), (-0.5, "∝ 1/√K")):
        end = start * (last / first) ** power
        ax.plot([first, last], [start, end], color="#BBBBBB", linewidth=1.4, zorder=1)
        place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(law, (last, end), color=GREY, fontsize=9, **place)


def _reach(ds: xr.Dataset) -> float:
    """How far from 1 the axis of the forest goes: over all intervals, but no further than 1.5."""
    error = ds["alignment_se"].fillna(0.0)
    ends = (abs(ds["alignment"] - 1) + 1.96 * error).values  # (E, side)
    return float(np.clip(1.1 * np.max(ends, where=np.isfinite(ends), initial=0.0), 0.02, 1.5))


def _dot(colour: str, filled: bool) -> dict[str, Any]:
    return {"marker": "o", "markersize": 6, "color": colour, "markerfacecolor": colour if filled else "white"}


def _point(ax: Axes, y: float, estimate: tuple[float, float], dot: dict[str, Any], reach: float) -> None:
    """A point with its interval, or an arrow with its value at the rim when it lies outside."""
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
