"""An evaluation as one HTML page that needs nothing but itself: under which circumstances, figures, pictures."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pplvm.plots.report import inlined
from pplvm.plots.table import number

__all__ = ["NOT_COMPARABLE", "evaluation_page"]

TEMPLATE = Path(__file__).with_name("evaluation_page.html.j2")
NOT_COMPARABLE = "not comparable"
"""The circumstance that goes into a box of its own: why figures cannot stand beside published ones, a line a reason."""
BROAD = 700  # dots: a picture as broad as this is scrolled on a narrow screen, not shrunk beyond reading


def evaluation_page(
    circumstances: Mapping[str, str],
    sections: Mapping[str, Sequence[Mapping[str, Any]]],
    pictures: Mapping[str, Path],
) -> str:
    """One self-contained HTML page.

    Arguments:
        circumstances: what was evaluated on what, by label: "program" and "data" make the heading, then "split",
            "binarization", "k", "seed", "command", ... in their order; `NOT_COMPARABLE` is shown in a box.
        sections: tables by title, each of rows with "name", "value" and, where there are any, "error" (one standard
            error over test points), "unit" and "note". A section without rows is left out.
        pictures: PNG files by caption.

    Raises:
        FileNotFoundError: a picture does not exist.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    known = {name: str(value) for name, value in circumstances.items() if str(value)}
    reasons = known.pop(NOT_COMPARABLE, "").split("\n")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        program=known.get("program", "a program"),
        data=known.get("data", "unnamed data"),
        circumstances=known,
        reasons=[reason for reason in reasons if reason.strip()],
        sections={title: [_row(row) for row in rows] for title, rows in sections.items() if rows},
        pictures=[(caption, inlined(Path(path)), _is_broad(Path(path))) for caption, path in pictures.items()],
    )


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of one figure."""
    value, error = row["value"], row.get("error")
    has_error = error is not None and math.isfinite(error) and error > 0
    return {
        "name": str(row["name"]),
        "value": value if isinstance(value, str) else _rounded(float(value), error if has_error else None),
        "error": f"± {_rounded(error, error)}" if has_error else "",
        "unit": str(row.get("unit") or ""),
        "note": str(row.get("note") or ""),
    }


def _rounded(value: float, error: float | None) -> str:
    """To the second significant digit of the error; to four of its own where there is none, unless it is whole.

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


def _is_broad(png: Path) -> bool:
    """By the width in the file's header."""
    with open(png, "rb") as file:
        (width,) = struct.unpack(">16xI", file.read(20))
    return width > BROAD
