"""Figures of a report: a number with its standard error over test data, its unit and a note."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Figure", "aligned", "mean_of"]


@dataclass(frozen=True)
class Figure:
    """A number with its standard error, unit and note.

    Example:
        >>> print(Figure("rate", 12.345, 0.067, "nats"))
        rate 12.35 +- 0.067 nats
    """

    name: str
    value: float
    error: float | None  # standard error over test points; None where the number is exact or has none
    unit: str  # "nats", "bits/dim", "units", ...
    note: str = ""  # what makes it incomparable with published figures, how it was cut short, ...

    def __str__(self) -> str:
        error = "" if self.error is None else f" +- {self.error:.2g}"
        return f"{self.name} {self.value:.2f}{error} {self.unit}" + (f" ({self.note})" if self.note else "")


def mean_of(name: str, values: Tensor, unit: str = "nats", note: str = "") -> Figure:
    """The mean over test data (N,), in float64; without a standard error for a single datum."""
    values = values.detach().double().flatten()
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return Figure(name, float(values.mean()), error, unit, note)


def aligned(sections: Mapping[str, Sequence[Figure]], width: int = 100) -> str:
    """Format figures under their headings, numbers and errors aligned at their decimal points.

    Arguments:
        width: columns of the longest line.

    Example:
        >>> rate, units = Figure("rate", 12.345, 0.067, "nats", "KL in closed form"), Figure("units", 9, None, "units")
        >>> print(aligned({"rate and distortion": [rate, units]}))
        rate and distortion
          rate   12.345 +- 0.067  nats    KL in closed form
          units   9               units
    """
    every = [figure for figures in sections.values() for figure in figures]
    values = _on_points([_value(figure) for figure in every])
    errors = _on_points(["" if figure.error is None else _error(figure.error) for figure in every])
    names = max((len(figure.name) for figure in every), default=0)
    units = max((len(figure.unit) for figure in every), default=0)
    errors = [f"+- {error}" if error.strip() else f"   {error}" for error in errors]
    rows = iter(zip(every, values, errors, strict=True))
    blocks = []
    for heading, figures in sections.items():
        lines = [heading]
        for figure, value, error in (next(rows) for _ in figures):
            row = f"  {figure.name:<{names}}  {value} {error}  {figure.unit:<{units}}"
            lines += _with_note(row, figure.note, width)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _with_note(row: str, note: str, width: int) -> Iterator[str]:
    if not note or len(row) + 3 + len(note) <= width:
        yield f"{row}   {note}".rstrip()
        return
    yield row.rstrip()
    yield from textwrap.wrap(note, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _value(figure: Figure) -> str:
    """A number with as many decimals as its error, two without an error, none for a count."""
    if figure.unit == "units" and figure.value == round(figure.value):
        return f"{figure.value:.0f}"
    return f"{figure.value:.{min(_decimals(figure.error), 4) if figure.error else 2}f}"


def _error(error: float) -> str:
    """An error to two significant digits.

    Example:
        >>> _error(123.4), _error(0.2234), _error(0.00483), _error(0.0)
        ('123', '0.22', '0.0048', '0')
    """
    if error and error < 1e-5:
        return f"{error:.1e}"
    return f"{error:.{_decimals(error)}f}"


def _decimals(error: float | None) -> int:
    """The decimals of an error to two significant digits."""
    return max(0, 1 - math.floor(math.log10(error))) if error and math.isfinite(error) else 0


def _on_points(numbers: Sequence[str]) -> list[str]:
    """Pad numbers so that their decimal points are aligned."""
    parts = [number.partition(".") for number in numbers]
    before = max((len(whole) for whole, _, _ in parts), default=0)
    after = max((len(point + decimals) for _, point, decimals in parts), default=0)
    return [f"{whole:>{before}}{point + decimals:<{after}}" for whole, point, decimals in parts]
