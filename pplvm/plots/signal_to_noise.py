"""Signal-to-noise ratio of gradients against particles, one row of panels a target."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pplvm.plots.estimator_styles import GREY, PALE, despine, estimator_styles, label, plain_ticks, rule_styles
from pplvm.plots.table import by_target, per_estimator, ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["has_signal", "snr_against_particles", "snr_figure"]

FLOOR = "floor of the estimate"
TEXT = 8.5  # points
LINE = 1.35 * TEXT  # points from one line of text to the next
ALIKE = 0.02  # of the logarithm: curves that nowhere differ by more lie on each other and get one label
WIDE, MOST_LINES = 34, 4  # characters and lines of a label


@dataclass(frozen=True)
class _Ending:
    """The label at the end of a line."""

    text: str
    height: float  # where the line ends, in the axis' units
    kind: dict[str, Any]

    @property
    def lines(self) -> int:
        return self.text.count("\n") + 1


def has_signal(ds: xr.Dataset) -> bool:
    """Whether any estimator was measured at several numbers of particles.

    Arguments:
        ds: what `compare_gradients` returned.
    """
    return "sweep_snr" in ds and bool((_heights(ds) > 0).any())


def snr_figure(ds: xr.Dataset) -> Figure:
    """Panels of `snr_against_particles` for model and guide parameters, one row a target.

    Arguments:
        ds: what `compare_gradients` returned, with `sweep_snr` and `sweep_floor` (estimator, k, side).

    Raises:
        ValueError: nothing was measured against particles.
    """
    from pplvm.plots.inline_figure import InlineFigure

    if not has_signal(ds):
        raise ValueError("snr_figure: no signal against particles was measured: there is nothing to draw")
    parts = [(goal, ds.sel(estimator=names)) for goal, names in by_target(ds).items()]
    parts = [(goal, part) for goal, part in parts if has_signal(part)]
    needed = [max(_lines(part, side) for side in part["side"].values) for _, part in parts]
    heights = [max(2.7, 1.0 + 1.25 * lines * LINE / 72) for lines in needed]
    figure = InlineFigure(figsize=(11, sum(heights) + 0.7), layout="constrained")
    rows = figure.subplots(len(parts), 2, sharey="row", squeeze=False, height_ratios=heights)
    for axes, (goal, part) in zip(rows, parts, strict=True):
        snr_against_particles(part, axes, re.sub(r", K=\d+$", "", goal))  # K is what the axis shows
    figure.legend(handles=_keys(ds), loc="outside lower left", ncols=5, frameon=False, fontsize=9)
    return figure


def snr_against_particles(ds: xr.Dataset, axes: Sequence[Axes], target: str = "") -> None:
    """Signal-to-noise ratio of the gradient against the number of particles, with the slopes of theory.

    The slopes +1/2 (model) and -1/2 (guide) are those of the reparametrised importance-weighted bound. Lines are named
    where they end, those that lie on each other together. Hollow points lie below what can be told from zero; one that
    was not positive is drawn at that floor. A side without any point is said to have none.

    Arguments:
        ds: what `compare_gradients` returned.
        axes: two, for the model's and the guide's parameters; room for names is taken to the right of each.
        target: put above the panels.

    References:
        Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh, "Tighter Variational Bounds are Not Necessarily
        Better", 2018, arXiv:1802.04537.
    """
    endings = [_panel(ds.sel(side=side), ax, side) for ax, side in zip(axes, ("model", "guide"), strict=True)]
    for ax, side, beside in zip(axes, ("model", "guide"), endings, strict=True):  # when shared axes have their limits
        if beside:
            plain_ticks(ax.yaxis, ax.get_ylim())
            _write_beside(ax, beside, float(ds["k"].max()))
        of = f"gradient of {label(target)}: " if target else ""
        ax.set_title(f"{of}the {side}'s parameters", loc="left", fontsize=11)
    axes[0].set_ylabel("signal-to-noise ratio\nof one gradient")


def _panel(ds: xr.Dataset, ax: Axes, side: str) -> list[_Ending]:
    """Draw the lines of a panel; returns the labels to be written beside them."""
    despine(ax)
    if not has_signal(ds):
        ax.text(0.5, 0.5, f"no gradient of the {side}", transform=ax.transAxes, ha="center", va="center", color=GREY)
        ax.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        return []
    particles, height, floor = ds["k"].values.astype(float), _heights(ds), _values(ds, "sweep_floor")
    hollow = ~(_values(ds, "sweep_snr") >= floor) & np.isfinite(floor)  # (E, k)
    ax.set(xscale="log", yscale="log", xlabel="particles K")
    ax.grid(color=PALE, zorder=0)
    look = estimator_styles(ds)
    for i, name in enumerate(map(str, ds["estimator"].values)):
        if (seen := height[i] > 0).any():
            _line(ax, particles[seen], height[i][seen], hollow[i][seen], look[name])
    _x_axis(ax, particles)
    return [*_names(ds), *_floor(ax, particles, floor), *_slopes(ax, particles, height)]


def _values(ds: xr.Dataset, name: str) -> np.ndarray:
    return ds[name].transpose("estimator", "k", ...).values  # (E, k) or (E, k, side)


def _heights(ds: xr.Dataset) -> np.ndarray:
    """The heights of points: the floor if the estimate is not positive."""
    snr = _values(ds, "sweep_snr")
    return np.where(snr > 0, snr, _values(ds, "sweep_floor"))


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, hollow: np.ndarray, look: dict[str, Any]) -> None:
    ax.plot(x, y, color=look["color"], linestyle=look["linestyle"], linewidth=1.6, zorder=3)
    kind: dict[str, Any] = look | {"linestyle": "none", "markersize": 6, "zorder": 4}
    ax.plot(x[~hollow], y[~hollow], **kind)
    ax.plot(x[hollow], y[hollow], markerfacecolor="white", **kind)


def _names(ds: xr.Dataset) -> list[_Ending]:
    """Labels of the estimators at the ends of their lines; coinciding lines share one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        curves = dict(zip(map(str, ds["estimator"].values), np.log(_heights(ds)), strict=True))
    groups: list[list[str]] = []
    for name in ranking(ds):
        curve = curves[name]
        if not np.isfinite(curve).any():
            continue
        alike = (g for g in groups if np.allclose(curves[g[0]], curve, rtol=0, atol=ALIKE, equal_nan=True))
        if (group := next(alike, None)) is None:
            groups.append([name])
        else:
            group.append(name)
    look, verdict = estimator_styles(ds), per_estimator(ds, "verdict")
    found = []
    for group in groups:
        colours = {look[name]["color"] for name in group}
        last = curves[group[0]][np.isfinite(curves[group[0]])][-1]
        words = [label(name) + (" (biased)" if verdict[name] == "biased" else "") for name in group]
        colour = colours.pop() if len(colours) == 1 else GREY
        found.append(_Ending(_wrapped(words), math.exp(last), {"color": "#1A1A1A", "leader": colour}))
    return found


def _wrapped(words: Sequence[str]) -> str:
    """Wrap names into a few lines; the rest are counted."""
    for shown in range(len(words), 0, -1):
        more = len(words) - shown
        text = ", ".join(words[:shown]) + (f" and {more} more" if more else "")
        lines = textwrap.wrap(text, WIDE, break_on_hyphens=False)
        if len(lines) <= MOST_LINES or shown == 1:
            return "\n".join(lines)
    return ""


def _lines(ds: xr.Dataset, side: str) -> int:
    """The number of text lines beside a panel."""
    one = ds.sel(side=side)
    return sum(ending.lines for ending in _names(one)) + 3 if has_signal(one) else 0


def _floor(ax: Axes, particles: np.ndarray, floor: np.ndarray) -> list[_Ending]:
    """A dashed line at the highest floor, shaded down to the lowest where estimators differ."""
    seen = (floor > 0).any(axis=0)  # (k,)
    if not seen.any():
        return []
    known = np.where(floor > 0, floor, np.nan)[:, seen]  # (E, k)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)  # (k,)
    ax.fill_between(particles[seen], low, high, color=PALE, linewidth=0, zorder=1)
    ax.plot(particles[seen], high, ":", color=GREY, linewidth=1.4)
    return [_Ending(FLOOR, float(high[-1]), {"color": GREY, "leader": GREY, "style": "italic"})]


def _x_axis(ax: Axes, particles: np.ndarray) -> None:
    ax.set_xticks(particles, [f"{k:g}" for k in particles])
    ax.minorticks_off()
    ax.set_xlim(particles.min() / 1.25, particles.max() * 1.12)


def _slopes(ax: Axes, particles: np.ndarray, height: np.ndarray) -> list[_Ending]:
    """Grey lines of slope +1/2 and -1/2 from the middle of the points at the fewest particles."""
    first, last = particles.min(), particles.max()
    if first == last:
        return []
    points = np.where(height > 0, height, np.nan)[:, np.argsort(particles)]  # (E, k)
    column = points[:, np.isfinite(points).any(axis=0)][:, 0]  # (E,)
    start = math.exp(np.nanmean(np.log(column)))
    found = []
    for power, slope in ((0.5, "∝ √K"), (-0.5, "∝ 1/√K")):
        end = start * (last / first) ** power
        ax.plot([first, last], [start, end], color="#BBBBBB", linewidth=1.4, zorder=1)
        found.append(_Ending(slope, end, {"color": GREY, "leader": "#BBBBBB", "style": "italic"}))
    return found


def _write_beside(ax: Axes, endings: Sequence[_Ending], last: float) -> None:
    """Write labels to the right of the axes without overlap, each with a thin line to its curve."""
    low, high = np.log(ax.get_ylim())
    points = ax.get_position().height * ax.figure.get_figheight() * 72
    order = sorted(endings, key=lambda ending: ending.height)
    wished = [(math.log(ending.height) - low) / (high - low) for ending in order]
    places = _apart(wished, [1.12 * ending.lines * LINE / points for ending in order])
    for ending, place in zip(order, places, strict=True):
        kind = {k: v for k, v in ending.kind.items() if k != "leader"}
        leader = {"arrowstyle": "-", "color": ending.kind["leader"], "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4}
        corner = ax.annotate(
            "", (last, ending.height), (1.0, place), textcoords="axes fraction", annotation_clip=False,
            arrowprops=leader | {"relpos": (0, 0.5)},
        )  # fmt: skip
        corner.set_in_layout(False)
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(ending.text, (1.0, place), (3, 0), va="center", fontsize=TEXT, **where, **kind)


def _apart(wished: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Positions near the wished ones, between 0 and 1, without overlap.

    Example:
        >>> [round(place, 2) for place in _apart([0.5, 0.5, 0.9], [0.1, 0.1, 0.1])]
        [0.45, 0.55, 0.9]
    """
    clusters: list[tuple[float, list[int]]] = []  # the middle that its members wish for, and they
    for i, wish in enumerate(wished):
        middle, members = _inside(wish, sizes[i]), [i]
        while clusters and middle - _total(members, sizes) / 2 < clusters[-1][0] + _total(clusters[-1][1], sizes) / 2:
            members = clusters.pop()[1] + members
            middle = _inside(float(np.mean([wished[m] for m in members])), _total(members, sizes))
        clusters.append((middle, members))
    places = []
    for middle, members in clusters:
        edge = middle - _total(members, sizes) / 2
        for m in members:
            places.append(edge + sizes[m] / 2)
            edge += sizes[m]
    return places


def _inside(middle: float, size: float) -> float:
    """A position moved so that the label stays within 0 and 1, if it fits."""
    return max(min(middle, 1 - size / 2), size / 2)


def _total(members: Sequence[int], sizes: Sequence[float]) -> float:
    return sum(sizes[m] for m in members)


def _keys(ds: xr.Dataset) -> list[Any]:
    """Legend entries: rules, and kinds of lines and points."""
    from matplotlib.lines import Line2D

    seen = (_heights(ds) > 0).reshape(ds.sizes["estimator"], -1).any(1)  # (E,)
    swept = ds.isel(estimator=seen)
    floor = _values(swept, "sweep_floor")
    keys = [Line2D([], [], label=rule, **look) for rule, look in rule_styles(swept).items()]
    if "biased" in per_estimator(swept, "verdict").values():
        keys.append(Line2D([], [], color=GREY, linestyle="--", label="dashed: biased"))
    if (~(_values(swept, "sweep_snr") >= floor) & np.isfinite(floor)).any():
        hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        keys.append(Line2D([], [], color=GREY, label="hollow: below the floor", **hollow))
    return keys
