"""The rate-distortion plane: rate against distortion of several runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pplvm.plots.estimator_styles import GREY, OKABE_ITO, despine, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = ["rate_distortion_figure", "save_rate_distortion"]

DOTS_PER_INCH = 150
DISTANCES, ANGLES = (8, 20, 34, 50, 68, 88, 110), (0, 45, -45, 90, -90, 135, -135, 180, 22, -22, 157, -157)
"""Where a label may stand, in points and degrees from its point; the first place that is free is taken."""


def save_rate_distortion(points: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Write a PNG of `rate_distortion_figure`; its path.

    Arguments:
        points: as for `rate_distortion_figure`.
        path: the file to write, in a folder that exists.

    Raises:
        ValueError: as of `rate_distortion_figure`.
    """
    rate_distortion_figure(points).savefig(path, dpi=DOTS_PER_INCH)
    return Path(path)


def rate_distortion_figure(points: Sequence[Mapping[str, Any]]) -> Figure:
    """The rate against the distortion of each run.

        -elbo = rate + distortion   is the same along each grey diagonal, and better further left and down

    Arguments:
        points: each with "rate" and "distortion", in nats, and if known "label", "beta", "rate_error" and
            "distortion_error"; those with a beta are joined in its order if no two have the same.

    Raises:
        ValueError: there is no point, or one lacks its rate or distortion or has it not finite.

    References:
        Alemi, Poole, Fischer, Dillon, Saurous and Murphy, Fixing a broken ELBO, 2018, arXiv:1711.00464
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from pplvm.plots.inline_figure import InlineFigure

    for point in points:
        if not all(math.isfinite(point.get(what, math.nan)) for what in ("rate", "distortion")):
            raise ValueError(f"save_rate_distortion: {dict(point)} lacks a finite rate or distortion: leave it out")
    if not points:
        raise ValueError("save_rate_distortion: there is no point to draw")
    figure = InlineFigure(figsize=(6.8, 5.4), layout="constrained")
    ax = figure.subplots()
    despine(ax)
    _draw(ax, points)
    _limits(ax, points)
    _diagonals(ax)
    ax.set(xlabel="distortion  −E log p(x | z), nats per datum", ylabel="rate  KL(q(z | x) ‖ p(z)), nats per datum")
    ax.set_title("Rate against distortion; −elbo along the grey lines", loc="left", fontsize=11)
    figure.draw_without_rendering()  # so that the places are known
    _label(ax, points, FigureCanvasAgg(figure).get_renderer())
    return figure


def _draw(ax: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    curve = sorted((point for point in points if "beta" in point), key=lambda point: point["beta"])
    if len({point["beta"] for point in curve}) == len(curve):  # runs of one beta are no curve
        ax.plot(*_places(curve), color=OKABE_ITO[0], linewidth=1, alpha=0.5, zorder=2)
    for point in points:
        errors = (point.get("distortion_error"), point.get("rate_error"))
        ax.errorbar(point["distortion"], point["rate"], errors[1], errors[0], "o", color=OKABE_ITO[0], zorder=3)


def _places(points: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [point["distortion"] for point in points], [point["rate"] for point in points]


def _limits(ax: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """Axis limits with room for labels around the points; the rate starts at 0."""
    for values, put in zip(_places(points), (ax.set_xlim, ax.set_ylim), strict=True):
        room = 0.15 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
        put(max(min(values) - room, 0.0) if min(values) >= 0 else min(values) - room, max(values) + 1.3 * room)


def _diagonals(ax: Axes) -> None:
    """Lines of constant rate + distortion, labelled at the top or the left."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    for total in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(left + low, right + high):
        if not left + low < total < right + high:
            continue
        ax.axline((total - low, low), slope=-1, color="#DDDDDD", linewidth=1, zorder=1)
        x, y = max(left, total - high), min(high, total - left)
        place: dict[str, Any] = {"xytext": (2, -2), "textcoords": "offset points", "va": "top", "zorder": 1}
        ax.annotate(f"{total:g}", (x, y), fontsize=8, color=GREY, **place)
    ax.set(xlim=(left, right), ylim=(low, high))


def _label(ax: Axes, points: Sequence[Mapping[str, Any]], renderer: Any) -> None:
    """Label each point where its name overlaps nothing; a thin line leads to distant labels."""
    dots = [ax.transData.transform((point["distortion"], point["rate"])) for point in points]
    taken: list[Any] = []
    for point in points:
        text = label(str(point.get("label", f"β = {point['beta']:g}" if "beta" in point else "")))
        if text:
            taken.append(_placed(ax, text, point, taken, dots, renderer))


def _placed(
    ax: Axes, text: str, point: Mapping[str, Any], taken: Sequence[Any], dots: Sequence[Any], renderer: Any
) -> Any:
    """Place a label at the first free position, or the nearest; returns its bounding box."""
    from matplotlib.text import Text

    for distance, angle in itertools.product(DISTANCES, ANGLES):
        found = _annotated(ax, text, point, distance, angle)
        found.update_positions(renderer)
        box = Text.get_window_extent(found, renderer)  # without the line that leads to it
        inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
        if inside and not any(map(box.overlaps, taken)) and not any(box.contains(*dot) for dot in dots):
            return box
        found.remove()
    return Text.get_window_extent(_annotated(ax, text, point, DISTANCES[0], ANGLES[0]), renderer)


def _annotated(ax: Axes, text: str, point: Mapping[str, Any], distance: float, angle: float) -> Annotation:
    across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    place: dict[str, Any] = {
        "xytext": (distance * across, distance * up),
        "textcoords": "offset points",
        "ha": "left" if across > 0.1 else "right" if across < -0.1 else "center",
        "va": "bottom" if up > 0.1 else "top" if up < -0.1 else "center",
    }
    if distance > DISTANCES[0]:
        place["arrowprops"] = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 3}
    return ax.annotate(text, (point["distortion"], point["rate"]), fontsize=9, zorder=4, **place)
