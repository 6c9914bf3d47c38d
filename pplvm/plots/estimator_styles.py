"""The styles that figures of a gradient comparison share: colours of rules, labels, rows under headings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pplvm.plots.table import by_target, per_estimator, shortened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "GREY",
    "PALE",
    "annotate_row",
    "despine",
    "estimator_styles",
    "label",
    "legend_handles",
    "name_rows",
    "plain_ticks",
    "rule_styles",
    "text_beside_axes",
]

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is too pale for lines on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY, PALE = "#666666", "#ECECEC"
MARKS = {"biased": "BIASED", "undecided": "undecided", "unbiased": ""}

RULES = {
    "score function": ("#D55E00", "o"),
    "pathwise": ("#0072B2", "s"),
    "antithetic draws": ("#009E73", "^"),
    "control variate": ("#CC79A7", "D"),
    "enumeration": ("#000000", "*"),
    "measure-valued": ("#56B4E9", "v"),
    "wake-sleep": ("#E69F00", "P"),
    "biased relaxation": ("#882255", "X"),
    "Pyro's own": ("#707070", "<"),
    "another rule": ("#332288", "h"),
}
"""Colour and marker of a rule, the same in every figure and report: Okabe and Ito's and, for the last three, a grey and
two of Tol's "muted" (2021), which those who see two colours only can tell from the others."""


def estimator_styles(ds: xr.Dataset) -> dict[str, dict[str, str]]:
    """Colour, marker and line style of every estimator by its rule; dashed if biased.

    Arguments:
        ds: what `compare_gradients` returned; where it names no rules, those of the same target look the same.
    """
    rule, verdict = _rules(ds), per_estimator(ds, "verdict")
    found = list(RULES.values())
    numbers = {name: i for i, name in enumerate(dict.fromkeys(rule.values()))}
    own = {name: RULES.get(kind) or found[numbers[kind] % len(found)] for name, kind in rule.items()}
    return {
        name: {"color": colour, "marker": marker, "linestyle": "--" if verdict[name] == "biased" else "-"}
        for name, (colour, marker) in own.items()
    }


def rule_styles(ds: xr.Dataset) -> dict[str, dict[str, str]]:
    """Colour and marker of every rule, in the order of `RULES`.

    Arguments:
        ds: what `compare_gradients` returned.
    """
    rule, look = _rules(ds), estimator_styles(ds)
    own = {kind: {"color": look[name]["color"], "marker": look[name]["marker"]} for name, kind in rule.items()}
    return {kind: own[kind] for kind in dict.fromkeys([*RULES, *own]) if kind in own}


def legend_handles(ds: xr.Dataset, hatched: bool = True) -> list[Artist]:
    """Legend entries: a patch for every rule and, if any estimator is biased, a hatched one.

    Arguments:
        ds: what `compare_gradients` returned.
        hatched: whether the figure hatches what is biased.
    """
    from matplotlib.patches import Patch

    handles: list[Artist] = [Patch(color=look["color"], label=label(rule)) for rule, look in rule_styles(ds).items()]
    if hatched and "biased" in per_estimator(ds, "verdict").values():
        handles.append(Patch(facecolor=PALE, edgecolor=GREY, hatch="////", linewidth=0.8, label="hatched: biased"))
    return handles


def plain_ticks(axis: Axis, values: ArrayLike) -> None:
    """Ticks of a logarithmic axis as plain numbers, one or a few a decade.

    Arguments:
        axis: x or y, logarithmic.
        values: what it shows; those that are not positive and finite count for nothing.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    array = np.asarray(values, dtype=float)
    seen = array[(array > 0) & np.isfinite(array)]
    decades = math.log10(seen.max() / seen.min()) if seen.size else 0.0
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.7 else (1.0, 2.0, 5.0) if decades < 1.7 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}" if 1e-4 <= value < 1e6 else f"{value:.0e}"))


def _rules(ds: xr.Dataset) -> dict[str, str]:
    return per_estimator(ds, "rule" if "rule" in ds else "target")


def label(name: str) -> str:
    """A name shortened to fit, with dollar signs escaped."""
    return shortened(name, 34).replace("$", r"\$")


def name_rows(ds: xr.Dataset, ax: Axes) -> dict[str, float]:
    """Label rows with estimators, best first under the heading of their target; returns their heights.

    Arguments:
        ds: what `compare_gradients` returned.
        ax: the axes to label; the first heading is at height 0, a row is 1 high, downwards.
    """
    verdict = per_estimator(ds, "verdict")
    places: dict[str, float] = {}
    y = 0.0
    for heading, members in by_target(ds).items():
        place: dict[str, Any] = {
            "xycoords": ax.get_yaxis_transform(),
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        kind: dict[str, Any] = {
            "va": "center",
            "ha": "right",
            "fontsize": 9.5,
            "style": "italic",
            "color": GREY,
        }
        ax.annotate(label(f"gradient of {heading}"), (0.0, y), xytext=(-4, 0), **place, **kind)
        places |= {name: y + 1 + i for i, name in enumerate(members)}
        y += 1 + len(members)
    ax.set_yticks(list(places.values()), [label(name) for name in places])
    for tick, name in zip(ax.get_yticklabels(), places, strict=True):
        tick.set_color(GREY if verdict[name] == "biased" else "black")
    ax.set_ylim(y - 0.4, -0.6)
    despine(ax, "left")
    ax.tick_params(axis="y", length=0, labelsize=10)
    ax.grid(axis="x", color=PALE, zorder=0)
    return places


def annotate_row(ax: Axes, y: float, figure: str, verdict: str) -> None:
    """Write a figure and the verdict of a row to the right of the axes.

    Arguments:
        ax: the axes, whose rows are one high.
        y: the height of the row.
        figure: right-aligned; empty for none.
        verdict: shown unless it is "unbiased"; one that is "biased" is marked.
    """
    biased = verdict == "biased"
    if figure:
        text_beside_axes(ax, y, figure, 62, ha="right", color=GREY if biased else "black")
    if mark := MARKS.get(verdict, verdict):
        text_beside_axes(ax, y, mark, 70 if figure else 8, color=GREY, weight="bold" if biased else "normal")


def text_beside_axes(ax: Axes, y: float, text: str, points: float, **kind: Any) -> None:
    """Write text to the right of the axes at a distance in points, which layout ignores."""
    place: dict[str, Any] = {
        "xycoords": ax.get_yaxis_transform(),
        "textcoords": "offset points",
        "annotation_clip": False,
    }
    ax.annotate(text, (1.0, y), xytext=(points, 0), va="center", fontsize=9.5, **place, **kind)


def despine(ax: Axes, *without: str) -> None:
    """Set readable ticks and hide the spines at the top, at the right and those named."""
    for side in ("top", "right", *without):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=9.5)
