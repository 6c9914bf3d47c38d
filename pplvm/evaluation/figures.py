"""A figure of a report: a number, its standard error over test points, its unit, and what must be known beside it."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Figure", "mean_of"]


@dataclass(frozen=True)
class Figure:
    """One number.

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
    """The mean over test points (N,), in float64; the error is None for a single point."""
    values = values.detach().double().flatten()
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return Figure(name, float(values.mean()), error, unit, note)
