"""How numbers are read: found where they tell, as told where that fits, asked for where neither does."""

import numpy as np
import pytest

from pplvm.data.value_interpretation import interpret_values, levels_of_integers
from pplvm.data.value_statistics import value_statistics


def read(array, **how):
    found = interpret_values(value_statistics(np.asarray(array), "mine"), "mine", **how)
    return found.levels, found.top, np.dtype(found.dtype).name


SMALL = np.array([[0, 16], [3, 7]])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", ">i2", "uint16", "float32", "float64"])
def test_levels_make_grey_of_whole_numbers_of_any_dtype(dtype):
    assert read(SMALL.astype(dtype), levels=17) == (17, 16, "uint8")
    assert read(SMALL.astype(dtype), levels=17, values="grey") == (17, 16, "uint8")
    assert read(SMALL.astype(dtype), levels=256) == (256, 255, "uint8")
    assert read(SMALL.astype(dtype), levels=1024) == (1024, 1023, "int32")
    assert read(SMALL.astype(dtype) // 16 * 16, levels=17) == (2, 16, "uint8")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_values_are_read_as_told(dtype):
    assert read(SMALL.astype(dtype), values="real") == (None, 1, "float32")
    assert read(SMALL.astype(dtype), values="integer")[:2] == (None, 1)
    assert read(SMALL.astype(dtype) // 16, values="integer")[:2] == (None, 1)
    assert read(SMALL.astype(dtype) * 8, values="grey") == (256, 255, "uint8")


@pytest.mark.parametrize("top", [128, 200, 255])
def test_bytes_to_128_or_more_are_grey_in_256_levels(top):
    assert read(np.array([[0, 5, top]], np.uint8)) == (256, 255, "uint8")


@pytest.mark.parametrize("top", [2, 16, 127])
def test_what_small_bytes_mean_is_asked(top):
    with pytest.raises(ValueError) as refusal:
        read(np.array([[0, 1, top]], np.uint8))
    assert str(refusal.value) == (
        f"data set 'mine' holds whole numbers from 0 to {top}, and nothing says which number is white: give --levels "
        f"{top + 1} if {top} is, --levels 256 for dark 8-bit images, or --values integer for counts or classes "
        "(in Python levels=, values=)"
    )
    for values in ("grey", None):
        with pytest.raises(ValueError, match=f"give --levels {top + 1} if {top} is, --levels 256 for dark"):
            read(np.array([[0, top, 1]], np.int64 if values else np.uint8), values=values)


def test_the_format_of_the_files_may_say():
    assert read(np.array([[0, 5, 100]], np.uint8), of_format=256) == (256, 255, "uint8")
    assert read(np.array([[0, 255, 255]], np.uint8), of_format=256) == (2, 255, "uint8")
    assert read(np.array([[0, 1, 1]], np.uint8), of_format=256) == (2, 1, "uint8")
    assert read(np.array([[0, 1, 9]], np.uint8), of_format=256, values="integer") == (None, 1, "uint8")
    assert read(np.array([[0, 1, 9]], np.uint8), of_format=256, levels=10) == (10, 9, "uint8")


@pytest.mark.parametrize(
    ("array", "how", "words"),
    [
        ([[0, 20]], {"levels": 17}, "numbers from 0 to 20, and --levels 17 reads 0 to 16: give more levels"),
        ([[-1, 5]], {"levels": 17}, "numbers from -1 to 5, and --levels 17 reads 0 to 16"),
        ([[0, 0.5]], {"levels": 17}, "from 0 to 0.5 that are not whole, and --levels 17 reads 0 to 16"),
        ([[0, 5]], {"levels": 1}, "no 1 grey levels: use 2 to 65536"),
        ([[0, 5]], {"levels": 17, "values": "integer"}, "--values integer and --levels 17 contradict each other"),
        ([[0, 5]], {"levels": 17, "values": "real"}, "--values real and --levels 17 contradict each other"),
        ([[0, 5]], {"values": "counts"}, "no values 'counts': use grey, integer, real"),
        ([[0, 0.7]], {"values": "integer"}, "from 0 to 0.7 that are not whole: leave --values integer out"),
        ([[0, 0.7]], {"values": "grey"}, "from 0 to 0.7 that are neither whole nor k/255"),
        ([[-3, 0, 200]], {"values": "grey"}, "from -3 to 200, and grey levels count from 0: give --values integer"),
        ([[0, 5, 700]], {"values": "grey"}, "give --levels 701 if 700 is, or --values integer"),
        ([[0, 2**24 + 1]], {"values": "integer"}, "integers beyond 2.24.* read them with --values real"),
    ],
)
def test_numbers_that_are_not_so_are_refused(array, how, words):
    with pytest.raises(ValueError, match=words):
        read(array, **how)


def test_integers_beyond_float32_may_be_real_values():
    assert read([[0, 2**40]], values="real") == (None, 1, "float32")


def test_levels_are_asked_for_in_the_words_of_the_asker():
    assert levels_of_integers(0, 130, "mine", "go") == 256
    with pytest.raises(ValueError, match="if 9 is, --levels 256 for dark 8-bit images, or go"):
        levels_of_integers(0, 9, "mine", "go")


def test_levels_may_say_what_fractions_of_255_tell():
    fractions = np.arange(256)[:, None] / 255
    assert read(fractions, levels=256) == read(fractions) == (256, 255, "uint8")
