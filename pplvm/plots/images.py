"""Grids of images, every pixel a square that can be seen, with labels that keep out of each other's way."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pplvm.plots.looks import GREY, label
from pplvm.plots.table import number

__all__ = ["save_grid"]

DOTS_PER_INCH = 100
TEXT = 9  # points
CELL = 72  # dots that the longer side of an image takes at least
WIDEST = 2400  # dots that all images of a row take together, unless their pixels are more
NARROWEST = 260  # dots of the figure, so that a title has room
GAP, MARGIN = 4, 10  # dots


def save_grid(
    images: ArrayLike,
    path: str | Path,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> Path:
    """Write a PNG of R rows of C images each; its path.

    Arguments:
        images: (R, C, H, W) grey, (R, C, 3, H, W) red, green and blue, (R, C, 1, H, W), or vectors (R, C, D), which
            are square images where D is a square and else bands.
        path: the file to write, in a folder that exists.
        row_labels: R of them, or none.
        column_labels: C of them, or none; they stand upright where they would not fit side by side.
        title: above all.
        limits: the values that are black and white; None for 0 and 1, or, if some values lie outside, for the least
            and the greatest, which are then told below the images.

    Raises:
        ValueError: the array has none of these shapes or a value that is no number, or labels are missing.
    """
    array = _pictures(np.asarray(images, dtype=float))  # (R, C, H, W, 1 or 3)
    for what, labels, count in (("row", row_labels, array.shape[0]), ("column", column_labels, array.shape[1])):
        if len(labels) not in (0, count):
            raise ValueError(f"save_grid: {len(labels)} {what} labels for {count} {what}s: give one each, or none")
    low, high = limits or _limits(array)
    mosaic = _mosaic(np.clip((array - low) / (high - low), 0, 1))
    foot = "" if (low, high) == (0, 1) else f"black is {number(low)}, white is {number(high)}"
    texts = _Texts([label(t) for t in row_labels], [label(t) for t in column_labels], title.replace("$", r"\$"), foot)
    _save(mosaic, array.shape[:2], texts, Path(path))
    return Path(path)


@dataclass(frozen=True)
class _Texts:
    rows: list[str]
    columns: list[str]
    title: str
    foot: str


def _pictures(array: np.ndarray) -> np.ndarray:
    """(R, C, H, W, 1 or 3)."""
    if array.ndim == 3:
        R, C, D = array.shape
        side = math.isqrt(D)
        band = np.broadcast_to(array[:, :, None, :], (R, C, -(-D // 4), D))  # a quarter as high as it is wide
        array = array.reshape(R, C, side, side) if side * side == D else band
    if array.ndim == 4:
        array = array[:, :, None]
    if array.ndim != 5 or array.shape[2] not in (1, 3) or array.size == 0:
        raise ValueError(
            "save_grid: images must be (R, C, H, W), (R, C, 1 or 3, H, W) or vectors (R, C, D), none of them zero, "
            f"got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("save_grid: some values are not finite: find out where they come from before drawing them")
    return np.moveaxis(array, 2, -1)


def _limits(array: np.ndarray) -> tuple[float, float]:
    low, high = float(array.min()), float(array.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high if high > low else low + 1)


def _mosaic(shades: np.ndarray) -> np.ndarray:
    """All images side by side on white, every pixel a square of dots: (height, width, 3)."""
    R, C, H, W, _ = shades.shape
    scale = max(1, min(-(-CELL // max(H, W)), WIDEST // (C * W)))
    cells = np.ones((R, H * scale + GAP, C, W * scale + GAP, 3))
    large = shades.repeat(scale, 2).repeat(scale, 3)  # (R, C, H', W', 1 or 3)
    cells[:, : H * scale, :, : W * scale] = large.transpose(0, 2, 1, 3, 4)
    return cells.reshape(R * (H * scale + GAP), C * (W * scale + GAP), 3)[:-GAP, :-GAP]


def _save(mosaic: np.ndarray, counts: tuple[int, ...], texts: _Texts, path: Path) -> None:
    """The mosaic dot for dot, with as much room around it as its texts take."""
    from matplotlib.figure import Figure

    height, width = mosaic.shape[:2]
    cell = (width + GAP) / counts[1]
    upright = any(_extent(text)[0] > cell - GAP for text in texts.columns)
    left = math.ceil(MARGIN + max([_extent(text)[0] + 8 for text in texts.rows], default=0))
    total = max(left + width + MARGIN, NARROWEST)
    line = 1.5 * _extent("Ay", TEXT + 2)[1]
    title = textwrap.wrap(
        texts.title, max(12, int(len(texts.title) * (total - 2 * MARGIN) / _extent(texts.title, 11)[0]))
    )
    head = max([_extent(text)[0 if upright else 1] + 8 for text in texts.columns], default=0)
    top = math.ceil(MARGIN + line * len(title) + 4 * bool(title) + head)
    whole = top + height + MARGIN + (18 if texts.foot else 0)
    figure = Figure(figsize=(total / DOTS_PER_INCH, whole / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    figure.add_axes((left / total, 1 - (top + height) / whole, width / total, height / whole)).set_axis_off()
    figure.axes[0].imshow(mosaic, interpolation="nearest", aspect="auto")

    def write(x: float, y: float, text: str, **kind: Any) -> None:
        figure.text(x / total, 1 - y / whole, text, **{"fontsize": TEXT, "va": "center", **kind})

    for i, text in enumerate(title):
        write(MARGIN, MARGIN + line * (i + 0.4), text, fontsize=TEXT + 2)
    for i, text in enumerate(texts.rows):
        write(left - 8, top + (height + GAP) / counts[0] * (i + 0.5) - GAP / 2, text, ha="right")
    for i, text in enumerate(texts.columns):
        way: dict[str, Any] = {"rotation": 90 if upright else 0, "ha": "center", "va": "bottom"}
        write(left + cell * (i + 0.5) - GAP / 2, top - 6, text, **way)
    write(left, top + height + 12, texts.foot, color=GREY, fontsize=TEXT - 1)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _extent(text: str, size: float = TEXT) -> tuple[float, float]:
    """Width and height of a line of text in dots."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer = RendererAgg(1, 1, DOTS_PER_INCH)
    width, height, _ = renderer.get_text_width_height_descent(text or " ", FontProperties(size=size), ismath=False)
    return width, height
