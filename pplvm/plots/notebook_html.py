"""HTML that notebooks show for results, self-contained and in the notebook's own colours.

Styles are inline and inherit the text's colour, since a notebook has its own theme, light or dark, and takes style
sheets out of what it does not trust. Nothing here draws a figure, so that none is kept or shown twice.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from pplvm.plots.estimator_styles import estimator_styles
from pplvm.plots.figure_rows import figure_cells, figure_lines
from pplvm.plots.summary import summary
from pplvm.plots.table import by_target, per_estimator, rows, text_table

__all__ = [
    "comparison_html",
    "comparison_text",
    "evaluation_html",
    "evaluation_text",
    "html_or_text",
    "images_html",
    "run_html",
    "spec_facts",
]

QUIET = "opacity:.75"  # of the theme's text: still 4.5 times as bright, or dark, as its ground
EDGE = "1px solid rgba(128,128,128,.4)"
SWATCH = "display:inline-block;width:.7em;height:.7em;margin-right:.5em"
CELL = "padding:.2em .7em;vertical-align:top;border:0"
LARGEST = 64  # pixels of a thumbnail's side; of larger images every second, third, ... is shown
COLUMNS = {"estimator": "estimator", "verdict": "verdict", "var x ms": "var × ms", "variance [95 %]": "variance [95 %]",
           "ms": "ms", "SNR": "SNR", "K": "K"}  # fmt: skip
WORDS = ("estimator", "verdict", "name", "unit", "note")


def html_or_text(html: Callable[[], str], plain: Callable[[], str]) -> str:
    """HTML from `html`; plain text if that fails, since displaying a result must not raise.

    Example:
        >>> html_or_text(lambda: 1 / 0, lambda: "<plain>")
        '<pre>&lt;plain&gt;</pre>'
    """
    try:
        return html()
    except Exception:
        return f"<pre>{escape(plain())}</pre>"


def evaluation_html(sections: Mapping[str, Sequence[Mapping[str, Any]]], left_out: Sequence[str] = ()) -> str:
    """Figures with errors, a table a section, and what was left out.

    Arguments:
        sections: rows by heading, as for `figure_cells`.
        left_out: sentences.
    """
    columns = {"name": "figure", "value": "value", "error": "± error", "unit": "unit", "note": "note"}
    parts = [
        _heading(title) + _table(columns, [_row(columns, figure_cells(row)) for row in part])
        for title, part in sections.items()
        if part
    ]
    if parts:
        parts.append(_quiet("± is one standard error over test points; figures without it are exact or have none."))
    return _block(parts + [_quiet(f"left out: {sentence}") for sentence in left_out])


def evaluation_text(sections: Mapping[str, Sequence[Mapping[str, Any]]], left_out: Sequence[str] = ()) -> str:
    """Figures with errors as aligned text, and what was left out.

    Arguments:
        sections, left_out: as for `evaluation_html`.
    """
    parts = ["\n".join([title, *(f"  {line}" for line in figure_lines(part))]) for title, part in sections.items()]
    return "\n\n".join([*parts, *(["\n".join(f"left out: {s}" for s in left_out)] if left_out else [])])


def comparison_html(ds: xr.Dataset, dataset: str = "") -> str:
    """The winners in sentences, and the ranked table with verdicts, target by target.

    Arguments:
        ds: what `compare_gradients` returned.
        dataset: HTML of the variables, which can be unfolded beneath it.
    """
    cells = {row["estimator"]: row | {"var x ms": row["var x ms"].replace("x", "×")} for row in rows(ds)}
    look, verdict = estimator_styles(ds), per_estimator(ds, "verdict")
    rule = per_estimator(ds, "rule") if "rule" in ds else {}
    lines = []
    for goal, names in by_target(ds).items():
        title = f"gradient of {escape(goal)}"
        lines.append(f'<tr><td colspan="{len(COLUMNS)}" style="{CELL};text-align:left"><i>{title}</i></td></tr>')
        for name in names:
            colour = f"background:{look[name]['color']};border:{EDGE}"  # an edge, or black were lost at night
            mark = f'<span title="{escape(rule.get(name, ""))}" style="{SWATCH};{colour}"></span>'
            lines.append(_row(COLUMNS, cells[name], mark, strong=verdict[name] == "biased"))
    told = [f'<div style="margin:.15em 0">{escape(sentence)}</div>' for sentence in summary(ds)]
    told += [_quiet(f"{line}.") for line in ds.attrs.get("left_out", "").split("\n") if line]
    more = f"<details><summary>variables of the dataset</summary>{dataset}</details>" if dataset else ""
    return _block([*told, _table(COLUMNS, lines), more])


def comparison_text(ds: xr.Dataset, width: int = 100) -> str:
    """The winners and the ranked table as text, and what the dataset holds.

    Arguments:
        ds: what `compare_gradients` returned.
        width: characters of a line.
    """
    sizes = ", ".join(f"{name}: {size}" for name, size in ds.sizes.items())
    told = f"xarray.Dataset of {len(ds.data_vars)} variables ({sizes}): .data_vars lists them"
    return "\n".join([text_table(ds, width), "", *summary(ds), "", told])


def spec_facts(spec: Any) -> dict[str, str]:
    """Describe the specification of a data set.

    Arguments:
        spec: with name, size, shape, levels and binarization, as a `DataSpec`.

    Example:
        >>> from pplvm.data.spec import DataSpec
        >>> spec_facts(DataSpec("digits", 1297, (8, 8), levels=17))
        {'data': 'digits', 'size': '1,297', 'shape': '8 × 8', 'values': '17 levels from 0 to 1', 'binarization': 'none'}
    """
    levels = spec.levels
    values = "any number" if levels is None else "0 and 1" if levels == 2 else f"{levels} levels from 0 to 1"
    return {
        "data": str(spec.name),
        "size": f"{spec.size:,}",
        "shape": " × ".join(map(str, spec.shape)) or "a single value",
        "values": values,
        "binarization": str(spec.binarization),
    }


def images_html(facts: Mapping[str, Any], images: np.ndarray, captions: Sequence[str] = ()) -> str:
    """The specification of a data set, and thumbnails of its first images.

    Arguments:
        facts: by label.
        images: (N, H, W), (N, 1 or 3, H, W) or vectors (N, D); others, and not finite ones, are not shown.
        captions: below each, N or none.
    """
    shown = _thumbnails(np.asarray(images, dtype=float))
    words = [*captions, *[""] * (len(shown) - len(captions))]
    pictures = [
        f'<span style="display:inline-block;margin:2px;text-align:center">'
        f'<img src="{_png(image)}" alt="datum {i}" width="{width}" style="image-rendering:pixelated;display:block">'
        f"{escape(str(word))}</span>"
        for i, (image, width, word) in enumerate(zip(shown, map(_width, shown), words, strict=True))
    ]
    return _block([_facts(facts), f'<div style="line-height:1.2">{"".join(pictures)}</div>' if pictures else ""])


def run_html(
    *,
    program: str,
    objective: str,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    step: int,
    directory: str = "",
) -> str:
    """A trained run: program, objective, data, step and settings.

    Arguments:
        program, objective: their names.
        data: facts by label, as of `spec_facts`.
        settings: by name; those that are None are left out.
        step: of the checkpoint.
        directory: of the run.
    """
    where = {"run": directory} if directory else {}
    facts = {**where, "program": program, "objective": objective, "step": f"{step:,}"} | dict(data)
    chosen = {name: value for name, value in settings.items() if value is not None}
    more = f"<details><summary>settings</summary>{_facts(chosen)}</details>" if chosen else ""
    return _block([_facts(facts), more])


def _block(parts: Iterable[str]) -> str:
    return f'<div style="color:inherit;background:transparent;overflow-x:auto">{"".join(filter(None, parts))}</div>'


def _heading(text: str) -> str:
    return f'<div style="font-weight:600;margin:.7em 0 .2em">{escape(text)}</div>'


def _quiet(text: str) -> str:
    return f'<div style="{QUIET};margin:.3em 0">{escape(text)}</div>'


def _table(columns: Mapping[str, str], lines: Sequence[str]) -> str:
    heads = "".join(
        f'<th style="{CELL};border-bottom:{EDGE};text-align:{_side(key)};white-space:nowrap">{escape(title)}</th>'
        for key, title in columns.items()
    )
    style = "border-collapse:collapse;font-variant-numeric:tabular-nums;color:inherit;font-size:inherit;margin:.3em 0"
    return f'<table style="{style}"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _row(columns: Mapping[str, str], cells: Mapping[str, str], mark: str = "", strong: bool = False) -> str:
    """A table row; `mark` is HTML before its first cell, and a strong row has its verdict in bold."""
    found = []
    for i, key in enumerate(columns):
        text = (mark if i == 0 else "") + escape(str(cells[key]))
        text = f"<b>{text}</b>" if strong and key == "verdict" else text
        found.append(f'<td style="{CELL};text-align:{_side(key)};{_breaking(key)}">{text}</td>')
    return f"<tr>{''.join(found)}</tr>"


def _side(key: str) -> str:
    return "left" if key in WORDS or key == "error" else "right"


def _breaking(key: str) -> str:
    return f"max-width:36em;white-space:normal;{QUIET}" if key == "note" else "white-space:nowrap"


def _facts(facts: Mapping[str, Any]) -> str:
    lines = "".join(
        f'<tr><th style="{CELL};text-align:left;font-weight:600">{escape(str(name))}</th>'
        f'<td style="{CELL};text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    style = "border-collapse:collapse;color:inherit;font-size:inherit;margin:.3em 0"
    return f'<table style="{style}"><tbody>{lines}</tbody></table>'


def _thumbnails(images: np.ndarray) -> list[np.ndarray]:
    """Images (H, W, 3) from 0 to 1 on one scale; none for data that are no images."""
    from pplvm.plots.images import as_grid, limits_of

    if images.ndim not in (2, 3, 4) or not images.size or not np.isfinite(images).all():
        return []
    if images.ndim == 4 and images.shape[1] not in (1, 3):
        return []
    if images.ndim == 2 and images.shape[1] > LARGEST**2:
        images = images[:, :: -(-images.shape[1] // LARGEST**2)]
    grid = as_grid(images[None])[0]  # (N, H, W, 1 or 3)
    every = -(-max(grid.shape[1:3]) // LARGEST)
    low, high = limits_of(grid)
    shades = np.clip((grid[:, ::every, ::every] - low) / (high - low), 0, 1)
    return list(np.broadcast_to(shades, (*shades.shape[:3], 3)))


def _width(image: np.ndarray) -> int:
    """The width of a thumbnail in dots, a whole number a pixel."""
    return max(1, 56 // image.shape[1]) * image.shape[1]


def _png(image: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.round(255 * image).astype(np.uint8)).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
