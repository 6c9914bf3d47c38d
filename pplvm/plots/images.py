"""Grids of images, each pixel a square of whole dots, with labels that do not overlap."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pplvm.plots.estimator_styles import GREY, label
from pplvm.plots.table import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["as_grid", "grid_figure", "limits_of", "save_grid"]

DOTS_PER_INCH = 100
TEXT = 9  # points
CELL = 72  # dots that the longer side of an image takes at least
WIDEST = 2400  # dots that all images of a row take together, unless their pixels are more
NARROWEST = 260  # dots of the figure, so that a title has room
GAP, MARGIN = 4, 10  # dots
SMALL, ABOVE = 8, 16  # points of the words above an image, and dots that they take


def save_grid(
    images: ArrayLike,
    path: str | Path,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    limits: tuple[float, float] | None = None,
    cell_labels: Sequence[Sequence[str]] = (),
) -> Path:
    """Write a PNG of R rows of C images each, every pixel a square of whole dots; its path.

    Arguments:
        path: the file to write, in a folder that exists.
        images, row_labels, column_labels, title, limits, cell_labels: as for `grid_figure`.

    Raises:
        ValueError: as of `grid_figure`.
    """
    figure = grid_figure(images, row_labels, column_labels, title, limits, cell_labels)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return Path(path)


def grid_figure(
    images: ArrayLike,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    limits: tuple[float, float] | None = None,
    cell_labels: Sequence[Sequence[str]] = (),
) -> Figure:
    """A figure of R rows of C images each.

    Arguments:
        images: (R, C, H, W) grey, (R, C, 3, H, W) red, green and blue, (R, C, 1, H, W), or vectors (R, C, D), which
            are square images where D is a square and else bands.
        row_labels: R of them, or none.
        column_labels: C of them, or none; they stand upright where they would not fit side by side.
        title: above all.
        limits: the values that are black and white; None for 0 and 1, or, if some values lie outside, for the least
            and the greatest, which are then told below the images.
        cell_labels: R rows of C words above each image, or none; for what differs from row to row.

    Raises:
        ValueError: the array has none of these shapes or a value that is no number, or labels are missing.

    Example:
        >>> import numpy as np
        >>> figure = grid_figure(np.eye(8)[None, None], column_labels=["a line"])     # a notebook shows it
    """
    array = as_grid(np.asarray(images, dtype=float))  # (R, C, H, W, 1 or 3)
    R, C = array.shape[:2]
    for what, labels, count in (("row", row_labels, R), ("column", column_labels, C)):
        if len(labels) not in (0, count):
            raise ValueError(f"save_grid: {len(labels)} {what} labels for {count} {what}s: give one each, or none")
    if cell_labels and [len(row) for row in cell_labels] != [C] * R:
        raise ValueError(f"save_grid: cell labels must be {R} rows of {C}, one for each image")
    low, high = limits or limits_of(array)
    foot = "" if (low, high) == (0, 1) else f"black is {number(low)}, white is {number(high)}"
    cells = [[label(t) for t in row] for row in cell_labels]
    texts = _Texts(
        [label(t) for t in row_labels], [label(t) for t in column_labels], title.replace("$", r"\$"), foot, cells
    )
    wide = _widest(cells)
    return _figure(_mosaic(_shades(array, low, high), texts.above, wide), array.shape[:2], texts)


def as_grid(array: np.ndarray) -> np.ndarray:
    """Images in any shape that `grid_figure` takes, as (R, C, H, W, 1 or 3).

    Arguments:
        array: as the images of `grid_figure`.

    Raises:
        ValueError: it has none of these shapes, or a value that is no number.
    """
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


@dataclass(frozen=True)
class _Texts:
    rows: list[str]
    columns: list[str]
    title: str
    foot: str
    cells: list[list[str]]

    @property
    def above(self) -> int:
        """Dots above each image for its words."""
        return ABOVE if self.cells else 0


def limits_of(array: np.ndarray) -> tuple[float, float]:
    """The values shown black and white: 0 and 1, or minimum and maximum if some values lie outside.

    Arguments:
        array: of any shape, finite.
    """
    low, high = float(array.min()), float(array.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high if high > low else low + 1)


def _shades(array: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((array - low) / (high - low), 0, 1)


def _mosaic(shades: np.ndarray, above: int, least: int) -> np.ndarray:
    """All images side by side on white, pixels as squares of dots: (height, width, 3).

    Arguments:
        above: dots left free above each image.
        least: dots that an image takes from side to side at least, so that words fit above it.
    """
    R, C, H, W, _ = shades.shape
    scale = max(1, min(max(-(-CELL // max(H, W)), -(-least // W)), WIDEST // (C * W)))
    cells = np.ones((R, above + H * scale + GAP, C, W * scale + GAP, 3))
    large = shades.repeat(scale, 2).repeat(scale, 3)  # (R, C, H', W', 1 or 3)
    cells[:, above : above + H * scale, :, : W * scale] = large.transpose(0, 2, 1, 3, 4)
    return cells.reshape(R * (above + H * scale + GAP), C * (W * scale + GAP), 3)[:-GAP, :-GAP]


def _widest(cells: Sequence[Sequence[str]]) -> int:
    """The width in dots of the widest label above an image."""
    return math.ceil(max((_extent(text, SMALL)[0] for row in cells for text in row), default=0))


def _figure(mosaic: np.ndarray, counts: tuple[int, ...], texts: _Texts) -> Figure:
    """A figure of the mosaic dot for dot, with room for its labels."""
    from pplvm.plots.inline_figure import InlineFigure

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
    figure = InlineFigure(figsize=(total / DOTS_PER_INCH, whole / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    figure.add_axes((left / total, 1 - (top + height) / whole, width / total, height / whole)).set_axis_off()
    figure.axes[0].imshow(mosaic, interpolation="nearest", aspect="auto")

    def write(x: float, y: float, text: str, **kind: Any) -> None:
        figure.text(x / total, 1 - y / whole, text, **{"fontsize": TEXT, "va": "center", **kind})

    row = (height + GAP) / counts[0]
    for i, text in enumerate(title):
        write(MARGIN, MARGIN + line * (i + 0.4), text, fontsize=TEXT + 2)
    for i, text in enumerate(texts.rows):
        write(left - 8, top + row * (i + 0.5) + (texts.above - GAP) / 2, text, ha="right")
    for i, text in enumerate(texts.columns):
        way: dict[str, Any] = {"rotation": 90 if upright else 0, "ha": "center", "va": "bottom"}
        write(left + cell * (i + 0.5) - GAP / 2, top - 6, text, **way)
    for i, words in enumerate(texts.cells):
        for j, text in enumerate(words):
            write(left + cell * (j + 0.5) - GAP / 2, top + row * i + ABOVE / 2, text, ha="center", fontsize=SMALL)
    write(left, top + height + 12, texts.foot, color=GREY, fontsize=TEXT - 1)
    return figure


def _extent(text: str, size: float = TEXT) -> tuple[float, float]:
    """Width and height of a line of text in dots."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer = RendererAgg(1, 1, DOTS_PER_INCH)
    width, height, _ = renderer.get_text_width_height_descent(text or " ", FontProperties(size=size), ismath=False)
    return width, height
