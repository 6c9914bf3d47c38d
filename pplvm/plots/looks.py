"""What the figures of a gradient comparison share: colours, names that fit, rows under headings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from pplvm.plots.table import by_target, per_estimator, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GREY", "PALE", "beside", "label", "looks", "name_rows", "remark", "tidy"]

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is too pale for lines on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
GREY, PALE = "#666666", "#ECECEC"
MARKS = {"biased": "BIASED", "undecided": "undecided", "unbiased": ""}


def looks(ds: xr.Dataset) -> dict[str, dict[str, str]]:
    """Colour, marker and line of every estimator, the same in every figure."""
    count = len(OKABE_ITO)
    return {
        str(name): {
            "color": OKABE_ITO[i % count],
            "marker": MARKERS[i // count % len(MARKERS)],
            "linestyle": LINES[i // count % len(LINES)],
        }
        for i, name in enumerate(ds["estimator"].values)
    }


def label(name: str) -> str:
    """A name that fits and in which a dollar sign starts no formula."""
    return shortened(name, 34).replace("$", r"\$")


def name_rows(ds: xr.Dataset, ax: Axes) -> dict[str, float]:
    """Label the rows of `ax`, best first under the heading of their target; the height of each.

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
    tidy(ax, "left")
    ax.tick_params(axis="y", length=0, labelsize=10)
    ax.grid(axis="x", color=PALE, zorder=0)
    return places


def remark(ax: Axes, y: float, figure: str, verdict: str) -> None:
    """A figure and the verdict of a row, to the right of the axes, where they cover no data.

    Arguments:
        ax: the axes, whose rows are one high.
        y: the height of the row.
        figure: right-aligned; empty for none.
        verdict: shown unless it is "unbiased"; one that is "biased" is marked.
    """
    biased = verdict == "biased"
    if figure:
        beside(ax, y, figure, 62, ha="right", color=GREY if biased else "black")
    if mark := MARKS.get(verdict, verdict):
        beside(ax, y, mark, 70 if figure else 8, color=GREY, weight="bold" if biased else "normal")


def beside(ax: Axes, y: float, text: str, points: float, **kind: Any) -> None:
    """Text so many points to the right of the axes, a distance that layout leaves alone."""
    place: dict[str, Any] = {
        "xycoords": ax.get_yaxis_transform(),
        "textcoords": "offset points",
        "annotation_clip": False,
    }
    ax.annotate(text, (1.0, y), xytext=(points, 0), va="center", fontsize=9.5, **place, **kind)


def tidy(ax: Axes, *without: str) -> None:
    """Readable ticks, no box: the spines at the top, at the right and those named are hidden."""
    for side in ("top", "right", *without):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=9.5)
