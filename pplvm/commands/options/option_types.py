"""Types of option values for argparse: bounded integers, positive numbers, fractions."""

import argparse
import math
from collections.abc import Callable

__all__ = ["at_least", "fraction", "names", "not_negative", "penalty", "positive"]


def at_least(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """An integer from `least` to `most`, by default the largest that torch holds.

    Example:
        >>> at_least(1)("12")
        12
        >>> at_least(1)("0")
        Traceback (most recent call last):
        ...
        argparse.ArgumentTypeError: must be at least 1, got 0
    """

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {value}")
        return value

    return whole_number


def positive(text: str) -> float:
    """A finite number above 0."""
    if (value := _number(text)) <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    if (value := _number(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def fraction(text: str) -> float:
    """A number strictly between 0 and 1."""
    if not 0 < (value := _number(text)) < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, as 0.999, got {text}")
    return value


def penalty(text: str) -> str:
    """The name and weight of a penalty, NAME=WEIGHT.

    Example:
        >>> penalty("commitment=0.25")
        'commitment=0.25'
    """
    name, _, weight = text.partition("=")
    if not name or not weight:
        raise argparse.ArgumentTypeError(f"must read NAME=WEIGHT, as commitment=0.25, got {text!r}")
    return f"{name}={_number(weight):g}"


def names(text: str) -> str:
    """A comma-separated list of different names.

    Example:
        >>> names("labels, mask")
        'labels,mask'
    """
    found = [word.strip() for word in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"must be different names, as labels or labels,mask, got {text!r}")
    return ",".join(found)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got {text}")
    return value
