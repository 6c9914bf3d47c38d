"""Training curves, one panel a quantity; and the convergence of log p(x) with the number of draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pplvm.plots.estimator_styles import GREY, OKABE_ITO, PALE, despine, label, text_beside_axes
from pplvm.plots.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["convergence_figure", "curves_figure", "save_convergence", "save_curves"]

DOTS_PER_INCH = 150
VALIDATION = "validation/"
FIRST = ("loss", "bound", "objective", "rate", "distortion")
NO_QUANTITY = {"step", "epoch"}
NATS = "nats per datum"
UNITS = {
    **dict.fromkeys(("loss", "bound", "objective", "elbo", "rate", "distortion", "reconstruction", "kl"), NATS),
    "bits_per_dim": "bits/dim",
    "gradient_norm": "norm, before clipping",
    "active_units": "units",
}
"""Of what a training run records, as its axis says; a part of one, as "rate_z", has the same."""
MOST_POINTS = 200  # of a line before it is smoothed
BEGINNING = 0.05  # of a run, which may leave the panel where it would take more than half of it
TRAINING_COLOUR, VALIDATION_COLOUR = OKABE_ITO[:2]


def save_curves(records: Sequence[Mapping[str, float]], path: str | Path) -> Path:
    """Write a PNG of training curves; its path.

    Arguments:
        records: as for `curves_figure`.
        path: the file to write, in a folder that exists.

    Raises:
        ValueError: as of `curves_figure`.
    """
    curves_figure(records).savefig(path, dpi=DOTS_PER_INCH, format="png")
    return Path(path)


def curves_figure(records: Sequence[Mapping[str, float]]) -> Figure:
    """Training curves, one panel a quantity.

    Arguments:
        records: each with "step" and any of "loss", "bound", "rate", ..., "validation/bound", ...; what a record lacks
            or has not finite is left out of the curve, and words are left out altogether. Validation is drawn beside
            what it validates. Long noisy curves are pale, with their running mean over a fiftieth of them on top.

    Raises:
        ValueError: a record has no step, or no record has anything else.

    Example:
        >>> figure = curves_figure([{"step": 1, "bound": -30.0}, {"step": 2, "bound": -25.0}])
        >>> figure.axes[0].get_ylabel()
        'nats per datum'
    """
    from pplvm.plots.inline_figure import InlineFigure

    if any("step" not in record for record in records):
        raise ValueError("save_curves: a record has no 'step': give one to each")
    curves = _curves(records)
    names = _in_order(curves)
    if not names:
        raise ValueError("save_curves: no record has a finite number beside its step: there is nothing to draw")
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure = InlineFigure(figsize=(1 + 3.5 * columns, 0.4 + 2.3 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    steps = np.concatenate([points[:, 0] for points in curves.values()])
    for place, name in enumerate(names):
        ax = figure.add_subplot(grid[place // columns, place % columns])
        _panel(ax, name, curves)
        _step_axis(ax, steps.min(), steps.max())
    figure.supxlabel("step", fontsize=10)
    return figure


def save_convergence(
    ks: Sequence[int],
    means: Sequence[float],
    errors: Sequence[float],
    path: str | Path,
    exact: float | None = None,
    name: str = "log p(x)",
) -> Path:
    """Write a PNG of `convergence_figure`; its path.

    Arguments:
        ks, means, errors, exact, name: as for `convergence_figure`.
        path: the file to write, in a folder that exists.

    Raises:
        ValueError: as of `convergence_figure`.
    """
    convergence_figure(ks, means, errors, exact, name).savefig(path, dpi=DOTS_PER_INCH)
    return Path(path)


def convergence_figure(
    ks: Sequence[int],
    means: Sequence[float],
    errors: Sequence[float],
    exact: float | None = None,
    name: str = "log p(x)",
) -> Figure:
    """Estimates of log p(x), or of its stand-in, against the number of draws.

    Arguments:
        ks: draws a datum, each at least 1, two of them at least.
        means: of log p(x) over test points, in nats.
        errors: their standard errors over test points.
        exact: the true mean of log p(x) of the same points, where it is known.
        name: of what is estimated.

    Raises:
        ValueError: fewer than two of the means are finite, which make no curve.
    """
    from pplvm.plots.inline_figure import InlineFigure

    seen = np.isfinite(means)
    if seen.sum() < 2:
        raise ValueError(
            f"{name} against the number of draws needs two numbers of draws with a finite figure, and there are "
            f"{seen.sum()}: ask for more, as --ks 1,10,100"
        )
    x, y = np.asarray(ks)[seen], np.asarray(means, dtype=float)[seen]
    figure = InlineFigure(figsize=(6.4, 4), layout="constrained")
    ax = figure.subplots()
    despine(ax)
    ax.grid(color=PALE, zorder=0)
    ax.set(xscale="log", xlabel="draws a datum, k (bars: one standard error over data)", ylabel=f"{name}, {NATS}")
    ax.errorbar(x, y, np.asarray(errors)[seen], fmt="o-", color=TRAINING_COLOUR, capsize=3, markersize=5, zorder=3)
    ax.set_xticks(x, [f"{k:,}" for k in x])
    ax.minorticks_off()
    ax.margins(x=0.08)
    if exact is not None:
        ax.axhline(exact, color=GREY, linestyle="--", linewidth=1.2, zorder=2)
        text_beside_axes(ax, exact, f"exact\n{_words(exact)}", 6, color=GREY)
    else:
        text_beside_axes(ax, y[-1], _words(y[-1]), 6, color=TRAINING_COLOUR)
    ax.set_title(f"{name} as it is estimated from ever more draws", loc="left", fontsize=11)
    return figure


def _curves(records: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Steps and finite values of every quantity, (n, 2), sorted by step."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in sorted(records, key=lambda record: record["step"]):
        for name, value in record.items():
            if name not in NO_QUANTITY and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, []).append((record["step"], value))
    return {name: np.array(points) for name, points in found.items()}


def _unit(name: str) -> str:
    whole = name.split("/")[0]
    return UNITS.get(name) or next((u for known, u in UNITS.items() if whole.startswith(f"{known}_")), "")


def _in_order(curves: Mapping[str, np.ndarray]) -> list[str]:
    """The quantities without "validation/", the most important first."""
    names = dict.fromkeys(name.removeprefix(VALIDATION) for name in curves)
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _panel(ax: Axes, name: str, curves: Mapping[str, np.ndarray]) -> None:
    training, validation = curves.get(name), curves.get(VALIDATION + name)
    despine(ax)
    ax.grid(color=PALE, zorder=0)
    ax.set_title(label(name.replace("_", " ")), loc="left", fontsize=11)
    ax.set_ylabel(_unit(name), fontsize=9)
    if training is not None:
        _line(ax, training)
    if validation is not None:
        ax.plot(
            *validation.T, "o-", color=VALIDATION_COLOUR, markersize=3.5, linewidth=1.2, zorder=4, label="validation"
        )
    if training is not None and validation is not None:
        ax.legend(frameon=False, fontsize=9)
    drawn = np.concatenate([points for points in (training, validation) if points is not None])
    _focus(ax, drawn)


def _line(ax: Axes, points: np.ndarray) -> None:
    steps, values = points.T
    kind = {"color": TRAINING_COLOUR, "linewidth": 1.5, "label": "training", "zorder": 3}
    turns = np.mean(np.diff(np.sign(np.diff(values))) != 0) if len(values) > MOST_POINTS else 0.0
    if turns < 0.2:  # short, or as smooth as a learning rate
        ax.plot(steps, values, marker="o" if len(steps) == 1 else "", markersize=3.5, **kind)
        return
    ax.plot(steps, values, color=TRAINING_COLOUR, linewidth=0.6, alpha=0.3, zorder=2)
    ax.plot(steps, _running_mean(values, len(values) // 100), **kind)


def _running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value with up to `reach` neighbours on each side."""
    places = np.arange(len(values))
    starts, ends = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    sums = np.concatenate([[0.0], values.cumsum()])
    return (sums[ends] - sums[starts]) / (ends - starts)


def _step_axis(ax: Axes, first: float, last: float) -> None:
    """Give every panel the same range of steps."""
    from matplotlib.ticker import MaxNLocator

    room = max(0.02 * (last - first), 0.5)
    ax.set_xlim(first - room, last + room)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _focus(ax: Axes, drawn: np.ndarray) -> None:
    """Leave out an initial part that would squeeze the rest, and say so; start the axis of a constant at 0."""
    steps, values = drawn.T
    if np.ptp(values) == 0 and values[0] != 0:
        ax.set_ylim(*sorted((0.0, 2 * values[0])))
        return
    late = values[steps > steps.min() + BEGINNING * np.ptp(steps)]
    if len(late) < 2 or np.ptp(late) == 0 or np.ptp(values) < 2 * np.ptp(late):
        return
    low, high = late.min() - 0.08 * np.ptp(late), late.max() + 0.08 * np.ptp(late)
    ax.set_ylim(low, high)
    down = f"down to {_words(values.min())}" if values.min() < low else ""
    up = f"up to {_words(values.max())}" if values.max() > high else ""
    ax.set_title(
        f"first steps out of view: {' and '.join(filter(None, (down, up)))}", loc="right", fontsize=8, color=GREY
    )


def _words(value: float) -> str:
    return number(value, 4).replace("-", "−")
