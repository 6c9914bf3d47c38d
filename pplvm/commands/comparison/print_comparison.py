"""Prints a comparison: a table and sentences for each of its sections."""

import shutil
from collections.abc import Sequence

import xarray as xr

from pplvm.plots.overview import title
from pplvm.plots.summary import summary
from pplvm.plots.table import per_estimator, text_table

__all__ = ["print_comparison"]


def print_comparison(sections: Sequence[xr.Dataset]) -> None:
    """Print each section as a table, with notes, estimators left out, and verdicts."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    for section in sections:
        if len(sections) > 1:
            print(f"{title(section)}\n{'=' * len(title(section))}")
        print(text_table(section, width))
        left_out = [line for line in section.attrs["left_out"].split("\n") if line]
        lines = [*_notes(section), *left_out, *summary(section)]
        print("\n".join(lines), end="\n\n" if len(sections) > 1 else "\n")


def _notes(section: xr.Dataset) -> list[str]:
    """The notes on estimators, one line for all with the same note."""
    names: dict[str, list[str]] = {}
    for name, note in per_estimator(section, "note").items():
        names.setdefault(note, []).append(name)
    return [f"{', '.join(each)}: {note}" for note, each in names.items() if note]
