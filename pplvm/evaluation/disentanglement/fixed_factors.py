"""Draws of data that share the level of one factor, from the rows of a data set."""

__all__ = ["factors_that_can_be_fixed", "rows_sharing"]

from collections.abc import Sequence

import numpy as np


def rows_sharing(level: np.ndarray, groups: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of groups whose data share the level of one factor and differ otherwise as the data do, (groups, size).

    A group's level is that of a random datum; its rows are drawn with replacement among all of that level.

    Arguments:
        level: (N,), of the factor, integers from 0; levels that only one datum has are never drawn.
        groups: their number.
        size: rows of a group.
        generator: of the draws.
    """
    counts = np.bincount(level)
    order = np.argsort(level, kind="stable")
    starts = np.cumsum(counts) - counts
    shared = level[counts[level] > 1]
    drawn = shared[generator.integers(len(shared), size=groups)]
    places = (generator.random((groups, size)) * counts[drawn][:, None]).astype("i8")
    return order[starts[drawn][:, None] + places]


def factors_that_can_be_fixed(levels: np.ndarray, score: str) -> Sequence[int]:
    """The numbers of all factors.

    Raises:
        ValueError: no two data share a level of one, so that it cannot be held.
    """
    for number, level in enumerate(levels.T):
        if np.bincount(level).max() < 2:
            raise ValueError(
                f"{score} holds one factor and lets the others vary, but no two data share a level of factor {number}: "
                "leave it out, or give more data"
            )
    return range(levels.shape[1])
