"""What the numbers of an array are, found part by part as it would be at once."""

import numpy as np
import pytest

from pplvm.data import lazy_rows
from pplvm.data.value_statistics import value_statistics

ARRAYS = {
    "grey": (np.array([[0, 16], [3, 7], [1, 2]], np.uint8), ("uint8", 0, 16, True, None, False)),
    "ink": (np.array([[0, 255], [0, 0], [255, 0]], np.uint8), ("uint8", 0, 255, True, {0, 255}, False)),
    "bool": (np.array([[False, True], [True, True]]), ("uint8", 0, 1, True, {0, 1}, False)),
    "three values, two a part": (np.array([[0, 1], [1, 2]]), ("integer", 0, 2, True, None, False)),
    "counts": (np.array([[-5, 1], [700, 2]], ">i2"), ("integer", -5, 700, True, None, False)),
    "k/255": (np.array([[0, 7], [255, 2]]) / 255, ("float", 0, 1, True, None, True)),
    "k/255 but for the last": (np.array([[0, 0.2], [1.0, 0.7]]), ("float", 0, 1, False, None, False)),
    "whole floats": (np.array([[0.0, 16.0], [3.0, 4.0]]), ("float", 0, 16, True, None, False)),
    "0 and 1 as floats": (np.array([[0.0, 1.0], [1.0, 1.0]]), ("float", 0, 1, True, {0, 1}, True)),
    "one value": (np.full((3, 2), 7), ("integer", 7, 7, True, {7}, False)),
}
ARRAYS["k/255"] = (ARRAYS["k/255"][0], ("float", 0, 1, False, None, True))


@pytest.mark.parametrize("at_once", [1, 4, 2**20])
@pytest.mark.parametrize("kind", ARRAYS)
def test_they_are_found_in_whatever_parts(kind, at_once, monkeypatch):
    monkeypatch.setattr(lazy_rows, "VALUES_AT_ONCE", at_once)
    array, expected = ARRAYS[kind]
    found = value_statistics(array, "mine")
    assert (found.stored, found.low, found.high, found.whole, found.pair, found.fractions) == expected


@pytest.mark.parametrize("at_once", [1, 4, 2**20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_the_first_bad_row_is_named(bad, at_once, monkeypatch):
    monkeypatch.setattr(lazy_rows, "VALUES_AT_ONCE", at_once)
    array = np.ones((20, 3))
    array[[7, 12], 1] = bad
    with pytest.raises(ValueError, match="row 7 of data set 'mine' holds NaN or infinity: remove or repair it"):
        value_statistics(array, "mine")


def test_two_arrays_are_judged_together():
    low, high = (value_statistics(np.array(rows, np.uint8), "mine") for rows in ([[0, 1]], [[1, 16]]))
    both = low | high
    assert (both.low, both.high, both.pair) == (0, 16, None)
    assert (low | low).pair == {0, 1}
