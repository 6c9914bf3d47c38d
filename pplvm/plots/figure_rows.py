"""Figures as rows: rounded to the precision of their errors, aligned at the decimal point."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pplvm.plots.table import number

__all__ = ["figure_cells", "figure_lines"]


def figure_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of one figure: name, value, error, unit, note.

    Arguments:
        row: "name", "value" (a number or words) and, where there are any, "error" (one standard error), "unit", "note".

    Example:
        >>> figure_cells({"name": "rate", "value": 12.3456, "error": 0.067, "unit": "nats"})
        {'name': 'rate', 'value': '12.346', 'error': '± 0.067', 'unit': 'nats', 'note': ''}
    """
    value, error = row["value"], row.get("error")
    has_error = error is not None and math.isfinite(error) and error > 0
    return {
        "name": str(row["name"]),
        "value": value if isinstance(value, str) else _rounded(float(value), error if has_error else None),
        "error": f"± {_rounded(error, error)}" if has_error else "",
        "unit": str(row.get("unit") or ""),
        "note": str(row.get("note") or "").replace("+-", "±"),
    }


def figure_lines(rows: Sequence[Mapping[str, Any]], width: int = 100) -> list[str]:
    """Figures as lines of text, values aligned at the decimal point, notes beneath them.

    Arguments:
        rows: as for `figure_cells`.
        width: characters of a line at most, where names and units leave room.

    Example:
        >>> rows = [{"name": "rate", "value": 2.04, "error": 0.31, "unit": "nats"}, {"name": "units", "value": 16}]
        >>> print("\\n".join(figure_lines(rows)))
        rate    2.04  ± 0.31  nats
        units  16
    """
    cells = [figure_cells(row) for row in rows]
    points = [cell["value"].partition(".") for cell in cells]
    before, after = max(map(len, (p[0] for p in points))), max(len(p[1] + p[2]) for p in points)
    wide = {key: max(len(cell[key]) for cell in cells) for key in ("name", "error", "unit")}
    lines = []
    for cell, (whole, point, rest) in zip(cells, points, strict=True):
        value = f"{whole:>{before}}{point + rest:<{after}}"
        shown = [f"{cell['name']:<{wide['name']}}", value, f"{cell['error']:<{wide['error']}}", cell["unit"]]
        lines.append("  ".join(shown).rstrip())
        lines += textwrap.wrap(cell["note"], width, initial_indent="    ", subsequent_indent="    ")
    return lines


def _rounded(value: float, error: float | None) -> str:
    """Round to the second significant digit of the error; without error to four digits, unless an integer.

    Example:
        >>> _rounded(-85.12345, 0.0678), _rounded(-85.12345, None), _rounded(23.0, None), _rounded(1234.5, 120.0)
        ('−85.123', '−85.12', '23', '1234')
    """
    if not math.isfinite(value):
        return "no figure" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if error is not None:
        told = f"{value:.{max(0, 1 - math.floor(math.log10(error)))}f}"
    else:
        told = f"{value:.0f}" if value == int(value) else number(value, 4)
    return told.replace("-", "−")
