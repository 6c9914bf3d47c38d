"""Several comparisons side by side: work of each estimator from checkpoint to checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pplvm.plots.estimator_styles import GREY, PALE, label
from pplvm.plots.table import by_target, number, per_estimator, relative_work
from pplvm.plots.work_ratios import contenders, is_unfinished, work_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_overview", "title", "work_map"]


def title(section: xr.Dataset) -> str:
    """The program and checkpoint of a comparison.

    Example:
        >>> title(xr.Dataset(attrs={"program": "vae", "checkpoint": "500 steps"}))
        'vae, 500 steps'
    """
    known = (section.attrs.get("program", "a program"), section.attrs.get("checkpoint", ""))
    return ", ".join(word for word in known if word)


def work_map(sections: Sequence[xr.Dataset], ax: Axes) -> None:
    """Variance x milliseconds as a heatmap, one row an estimator and one column a section.

    ≈ marks factors that are not told apart from one; an estimator without noise has none.

    Arguments:
        sections: what `compare_gradients` returned, at least one.
        ax: the axes to draw on.
    """
    rows = _rows(sections)
    relative = np.full((len(rows), len(sections)), math.nan)
    for j, section in enumerate(sections):
        factor, work, verdict = (
            relative_work(section),
            per_estimator(section, "work"),
            per_estimator(section, "verdict"),
        )
        for i, (target, name) in enumerate(rows):
            if name in work and name in by_target(section).get(target, ()):
                relative[i, j] = math.log10(factor[name]) if factor[name] > 0 else math.nan
                biased = verdict[name] == "biased"
                near = "≈" if name in _near_the_best(section, target) else ""
                factors = f"{number(work[name])} ({near}{number(factor[name])}×)"
                text = ("no noise" if work[name] == 0 else factors) + (" biased" if biased else "")
                dark = relative[i, j] > 1.4 and not biased
                ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
                relative[i, j] = math.nan if biased else relative[i, j]
    ax.imshow(relative, cmap="viridis_r", vmin=-1, vmax=3, aspect="auto", alpha=0.85)
    ax.set_facecolor(PALE)
    _name_axes(ax, rows, sections)


def save_overview(sections: Sequence[xr.Dataset], directory: str | Path) -> Path:
    """Write overview.png; its path.

    Arguments:
        sections: what `compare_gradients` returned, at least one.
        directory: the folder to write into, which exists.
    """
    from matplotlib.figure import Figure

    size = (4.0 + 2.1 * len(sections), 1.6 + 0.3 * len(_rows(sections)))
    figure = Figure(figsize=size, layout="constrained")
    work_map(sections, figure.subplots())
    path = Path(directory) / "overview.png"
    figure.savefig(path, dpi=150)
    return path


def _near_the_best(section: xr.Dataset, target: str) -> list[str]:
    """The estimators of a target that cannot be told from its best."""
    able = contenders(section, by_target(section)[target])
    return [name for name in able[1:] if not work_ratio(section, name, able[0], among=len(able))[0] > 1]


def _rows(sections: Sequence[xr.Dataset]) -> list[tuple[str, str]]:
    """Target and name of every estimator of any section, target by target."""
    found: dict[str, dict[str, None]] = {}
    for section in sections:
        for target, names in by_target(section).items():
            found.setdefault(target, {}).update(dict.fromkeys(names))
    return [(target, name) for target, names in found.items() for name in names]


def _name_axes(ax: Axes, rows: list[tuple[str, str]], sections: Sequence[xr.Dataset]) -> None:
    names = [
        label(title(section)).replace(", ", "\n") + ("\nunfinished" if is_unfinished(section) else "")
        for section in sections
    ]
    ax.set_xticks(range(len(sections)), names, fontsize=9)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(rows)), [label(name) for _, name in rows], fontsize=9.5)
    ax.tick_params(length=0)
    for side in ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)
    places = {target: [i for i, row in enumerate(rows) if row[0] == target] for target, _ in rows}
    for target, inside in places.items():
        ax.axhline(inside[0] - 0.5, color="white", linewidth=4)
        place = ax.get_yaxis_transform()
        middle = (inside[0] + inside[-1]) / 2
        ax.text(1.02, middle, label(target), transform=place, va="center", color=GREY, style="italic", fontsize=9.5)
