"""An evaluation as one self-contained HTML page: circumstances, figures, pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pplvm.plots.figure_rows import figure_cells
from pplvm.plots.report import dots_across, inlined, rendered

__all__ = ["NOT_COMPARABLE", "evaluation_page"]

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
    known = {name: str(value) for name, value in circumstances.items() if str(value)}
    reasons = known.pop(NOT_COMPARABLE, "").split("\n")
    return rendered(
        "evaluation_page.html.j2",
        program=known.get("program", "a program"),
        data=known.get("data", "unnamed data"),
        circumstances=known,
        reasons=[reason for reason in reasons if reason.strip()],
        sections={title: [figure_cells(row) for row in rows] for title, rows in sections.items() if rows},
        pictures=[
            (caption, inlined(Path(path)), dots_across(Path(path)) > BROAD) for caption, path in pictures.items()
        ],
    )
