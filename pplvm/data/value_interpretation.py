"""Interprets stored numbers as grey levels, integers or real values; asks the user where they are ambiguous."""

__all__ = ["Interpretation", "VALUES", "interpret_values", "levels_of_integers"]

from dataclasses import dataclass

import numpy as np

from pplvm.data.value_statistics import BYTE, CONTINUOUS, ValueStatistics

VALUES = ("grey", "integer", "real")
LARGEST_INTEGER = 2**24  # up to which float32 holds every one
MOST_LEVELS = 2**16  # of 16-bit images
DARKEST_WHITE = 128  # images of eight bits hardly ever stay in the lower half; counts, classes and 17 levels do


@dataclass(frozen=True)
class Interpretation:
    """How stored numbers are interpreted: dtype, levels, and the number that means 1.

    Arguments:
        dtype: they are held as: uint8, int32 or float32.
        levels: as in `DataSpec`.
        top: the held number that means 1.
        factor: as in `LazyRows`.
    """

    dtype: type[np.generic]
    levels: int | None
    top: int = 1
    factor: int = 1


def interpret_values(
    found: ValueStatistics,
    name: str,
    values: str | None = None,
    levels: int | None = None,
    of_format: int | None = None,
) -> Interpretation:
    """Interpret stored numbers as the user says, or else by their statistics.

    Arguments:
        found: what is known of them.
        name: what messages call the data set.
        values: "grey", "integer" or "real"; found from the data unless given.
        levels: stored numbers are 0 to levels - 1; found from the data unless given.
        of_format: the levels that the format of the files has, if it says.
    Raises ValueError for numbers that cannot be read so, for contradictions, and where the data do not tell.

    Example:
        >>> from pplvm.data.value_statistics import value_statistics
        >>> interpret_values(value_statistics(np.array([[0, 16], [5, 7]], np.uint8), "toy"), "toy", levels=17).top
        16
    """
    if values not in (None, *VALUES):
        raise ValueError(f"there are no values {values!r}: use {', '.join(VALUES)}")
    if levels is not None:
        if values not in (None, "grey"):
            raise ValueError(f"--values {values} and --levels {levels} contradict each other: only grey has levels")
        if found.fractions and not found.whole and levels == 256:
            return Interpretation(np.uint8, 256, 255, 255)
        return _grey(found, name, levels)
    if values == "real":
        return Interpretation(np.float32, None)
    if values == "integer":
        return _integer(found, name)
    if found.stored == CONTINUOUS and found.fractions:
        return Interpretation(np.uint8, 2 if _is_binary(found, 1) else 256, 255, 255)
    if found.stored != CONTINUOUS and (_is_binary(found, 1) or _is_binary(found, 255)):
        return Interpretation(np.uint8, 2, int(found.high))
    if found.stored == BYTE or values == "grey":
        return _grey(found, name, of_format or _guessed(found, name))
    return Interpretation(np.float32, None) if found.stored == CONTINUOUS else _integer(found, name)


def _is_binary(found: ValueStatistics, top: int) -> bool:
    return found.pair is not None and found.pair <= {0, top}


def _grey(found: ValueStatistics, name: str, levels: int) -> Interpretation:
    if not 2 <= levels <= MOST_LEVELS:
        raise ValueError(f"there are no {levels} grey levels: use 2 to {MOST_LEVELS}")
    if not found.whole:
        raise ValueError(
            f"data set {name!r} holds numbers from {found.low:g} to {found.high:g} that are not whole, and --levels "
            f"{levels} reads 0 to {levels - 1}: leave it out, or scale them to whole numbers"
        )
    if found.low < 0 or found.high >= levels:
        raise ValueError(
            f"data set {name!r} holds numbers from {found.low:.0f} to {found.high:.0f}, and --levels {levels} reads 0 "
            f"to {levels - 1}: give more levels, or --values integer or real"
        )
    binary = _is_binary(found, levels - 1)
    return Interpretation(np.uint8 if levels <= 256 else np.int32, 2 if binary else levels, levels - 1)


def _guessed(found: ValueStatistics, name: str) -> int:
    if not found.whole:
        raise ValueError(
            f"data set {name!r} holds numbers from {found.low:g} to {found.high:g} that are neither whole nor k/255, "
            "so they are no grey levels: leave --values grey out, or read them with --values real"
        )
    return levels_of_integers(found.low, found.high, name, "--values integer for counts or classes")


def levels_of_integers(low: float, high: float, name: str, otherwise: str) -> int:
    """The number of grey levels of integers: 256 if the highest is 128 to 255.

    Arguments:
        low, high: their range, over all splits of the data set.
        name: what messages call it.
        otherwise: what to do if they are no grey levels.
    Raises ValueError, which asks, for any other range.
    """
    if low >= 0 and DARKEST_WHITE <= high <= 255:
        return 256
    if low < 0:
        raise ValueError(
            f"data set {name!r} holds whole numbers from {low:.0f} to {high:.0f}, and grey levels count from 0: "
            f"give {otherwise}"
        )
    dark = ", --levels 256 for dark 8-bit images" if high < DARKEST_WHITE else ""
    raise ValueError(
        f"data set {name!r} holds whole numbers from {low:.0f} to {high:.0f}, and nothing says which number is white: "
        f"give --levels {high + 1:.0f} if {high:.0f} is{dark}, or {otherwise} (in Python levels=, values=)"
    )


def _integer(found: ValueStatistics, name: str) -> Interpretation:
    if not found.whole:
        raise ValueError(
            f"data set {name!r} holds numbers from {found.low:g} to {found.high:g} that are not whole: leave "
            "--values integer out, or round them"
        )
    if max(-found.low, found.high) > LARGEST_INTEGER:
        raise ValueError(
            f"data set {name!r} holds integers beyond 2^24, which float32 cannot tell apart: scale them, or number "
            "what they name from 0, or read them with --values real"
        )
    return Interpretation(np.uint8 if found.stored == BYTE else np.int32, None)
