"""Value statistics of an array: range, integers or not, two-valued, k/255; computed once, in chunks."""

__all__ = ["ValueStatistics", "value_statistics"]

from dataclasses import dataclass

import numpy as np

from pplvm.data.lazy_rows import chunk_slices

CONTINUOUS, INTEGER, BYTE = "float", "integer", "uint8"  # how numbers are stored; booleans are bytes


@dataclass(frozen=True)
class ValueStatistics:
    """The value statistics of one array, or of several.

    Arguments:
        stored: "float", "integer" or "uint8", which booleans count as.
        low, high: the lowest and the highest value, of floats as float32 has them.
        whole: every value is an integer.
        pair: the values if there are two at most, None if there are more.
        fractions: every value is k/255 for an integer k from 0 to 255, exactly, as torchvision's ToTensor has it.
    """

    stored: str
    low: float
    high: float
    whole: bool
    pair: frozenset[float] | None
    fractions: bool

    def __or__(self, other: "ValueStatistics") -> "ValueStatistics":
        """Of both, which are stored alike."""
        pair = None if self.pair is None or other.pair is None else self.pair | other.pair
        return ValueStatistics(
            self.stored,
            min(self.low, other.low),
            max(self.high, other.high),
            self.whole and other.whole,
            None if pair is None or len(pair) > 2 else pair,
            self.fractions and other.fractions,
        )


def value_statistics(array: np.ndarray, name: str) -> ValueStatistics:
    """Compute the value statistics of an array (N, ...) with at least one value.

    Arguments:
        name: what messages call it.
    Raises ValueError for other things than numbers, and for NaN or infinity, with the first row that has one.

    Example:
        >>> found = value_statistics(np.array([[0, 16], [5, 7]], np.uint8), "toy")
        >>> (found.low, found.high, found.pair)
        (0, 16, None)
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"data set {name!r} holds {array.dtype}: save images as uint8 and other numbers as float32")
    found: ValueStatistics | None = None
    for part in chunk_slices(array.shape):
        rows = array[part]
        there = _of_floats(rows, name, part.start, found) if array.dtype.kind == "f" else _of_integers(rows, found)
        found = there if found is None else found | there
    assert found is not None, "an array without values"
    return found


def _of_integers(rows: np.ndarray, before: ValueStatistics | None) -> ValueStatistics:
    low, high = int(rows.min()), int(rows.max())
    stored = BYTE if rows.dtype.kind == "b" or rows.dtype == np.uint8 else INTEGER
    return ValueStatistics(stored, low, high, True, _pair(rows, low, high, before), False)


def _of_floats(rows: np.ndarray, name: str, start: int, before: ValueStatistics | None) -> ValueStatistics:
    """The statistics of one chunk of floats; checks that failed on an earlier chunk are skipped."""
    with np.errstate(over="ignore"):  # too large for float32 is infinity, refused below
        rows = rows.astype(np.float32)
    low, high = float(rows.min()), float(rows.max())
    if not np.isfinite([low, high]).all():
        bad = ~np.isfinite(rows).reshape(len(rows), -1).all(1)  # (n,)
        raise ValueError(f"row {start + bad.argmax()} of data set {name!r} holds NaN or infinity: remove or repair it")
    whole = (before is None or before.whole) and bool((np.rint(rows) == rows).all())
    fractions = (before is None or before.fractions) and low >= 0 and high <= 1
    if fractions:
        fractions = bool((np.rint(rows * np.float32(255)) / np.float32(255) == rows).all())
    return ValueStatistics(CONTINUOUS, low, high, whole, _pair(rows, low, high, before), fractions)


def _pair(rows: np.ndarray, low: float, high: float, before: ValueStatistics | None) -> frozenset[float] | None:
    if before is not None and before.pair is None:
        return None
    return frozenset((low, high)) if bool(((rows == low) | (rows == high)).all()) else None
