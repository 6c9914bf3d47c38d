"""Arrays of every kind: which levels they have, how they are split, which are refused."""

import numpy as np
import pytest
import torch

from pplvm.data.array_splits import SplitArrays
from pplvm.data.arrays import from_rows

GREY = np.arange(60, dtype=np.uint8).reshape(20, 3) * 4


@pytest.mark.parametrize(
    ("array", "levels", "value"),
    [
        (GREY, 256, 4 / 255),
        (GREY.astype(np.int64), None, 4.0),
        (GREY.astype(">i2"), None, 4.0),
        (GREY.astype(np.uint16) * 100, None, 400.0),
        (GREY.astype(np.int64) - 50, None, -46.0),
        (GREY.astype(np.int64) % 8 // 4, 2, 1.0),
        (GREY.astype(np.int64) % 8 // 4 * 255, 2, 1.0),
        (GREY.astype(np.float32) / 255, 256, 4 / 255),
        (GREY.astype(np.float64) / 255, 256, 4 / 255),
        (GREY % 8 // 4, 2, 1.0),
        (GREY % 8 > 0, 2, 1.0),
        (GREY % 8 // 4 * np.uint8(255), 2, 1.0),
        ((GREY % 8 // 4).astype(np.float64), 2, 1.0),
        (GREY * 0.01, None, 0.04),
        ((GREY * 0.01).astype(">f8"), None, 0.04),
        (GREY.astype(np.float16), None, 4.0),
        (-GREY.astype(np.float32) / 255, None, -4 / 255),
    ],
)
def test_the_levels_are_found(array, levels, value):
    data = from_rows(array, "mine", "all")
    assert (data.spec.levels, data.spec.size, data.spec.shape) == (levels, 20, (3,))
    assert data[0][1].item() == pytest.approx(value, rel=1e-6)
    assert data[0].dtype == torch.float32


@pytest.mark.parametrize("size", [10, 23, 105])
def test_the_splits_are_disjoint_covering_and_repeatable(size):
    array = np.arange(size, dtype=np.float32)[:, None] - 0.5
    parts = {split: from_rows(array, "mine", split).images[:, 0].tolist() for split in ("train", "valid", "test")}
    assert [len(part) for part in parts.values()] == [size - 2 * (size // 10), size // 10, size // 10]
    assert sorted(sum(parts.values(), [])) == array[:, 0].tolist()
    assert from_rows(array, "mine", "test").images[:, 0].tolist() == parts["test"]
    assert parts["valid"] != array[: size // 10, 0].tolist() or size == 10


def test_labels_follow_their_rows():
    data = from_rows(GREY, "mine", "train", labels=(GREY[:, 0] // 4).tolist())
    assert torch.equal(data.images[:, 0] // 4, data.labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_the_first_bad_row_is_named(bad):
    array = np.ones((20, 3))
    array[[7, 12], 1] = bad
    with pytest.raises(ValueError, match="row 7 of data set 'mine' holds NaN or infinity"):
        from_rows(array, "mine", "all")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 3)), r"'mine' is empty, its shape is \(0, 3\)"),
        (np.zeros((3, 0)), "'mine' is empty"),
        (np.float32(3.0).reshape(()), r"'mine' is empty, its shape is \(\)"),
        (np.arange(60), r"'mine' is one row of 60 numbers: give it rows, as \(60, 1\)"),
        (
            np.array([[0], [2**24 + 1]]),
            "'mine' holds integers beyond 2.24, which float32 cannot tell apart: scale them",
        ),
        (np.array([[0], [-(2**63)]]), "integers beyond 2.24"),
        (np.array([[0], [2**64 - 1]], np.uint64), "integers beyond 2.24"),
        (np.array([["a"]]), "holds <U1: save images as uint8 and other numbers as float32"),
        (np.array([[1j]]), "holds complex128: save images as uint8 and other numbers as float32"),
    ],
)
def test_other_arrays_are_refused(array, words):
    with pytest.raises(ValueError, match=words):
        from_rows(array, "mine", "all")


def test_splits_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="no split 'dev': use train, valid, test, all"):
        from_rows(GREY, "mine", "dev")
    with pytest.raises(ValueError, match="has 9 rows, too few for a split 'valid': it takes 10"):
        from_rows(GREY[:9], "mine", "valid")


BYTES = np.arange(60, dtype=np.uint8).reshape(20, 3)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_what_small_bytes_mean_is_asked_of_all_splits_together(split):
    source = SplitArrays({"train": BYTES, "test": BYTES[:4] + 130})
    assert from_rows(source, "mine", split).spec.levels == 256
    assert from_rows(source, "mine", split).extremes == (0, 141)
    with pytest.raises(ValueError, match="from 0 to 59, and nothing says which number is white: give --levels 60"):
        from_rows(SplitArrays({"train": BYTES, "test": BYTES[:4] % 2}), "mine", split)
    ink = {"train": BYTES % 2, "test": BYTES[:4] % 2}
    assert from_rows(SplitArrays(ink), "mine", split).spec.levels == 2
    assert from_rows(SplitArrays(ink | {"test": BYTES[:4]}), "mine", split, levels=60).spec.levels == 60
    floats = {"train": BYTES / 255, "test": BYTES[:4] / 250}
    assert from_rows(SplitArrays(floats), "mine", split).spec.levels is None


def test_levels_and_values_are_taken_at_their_word():
    grey = from_rows(BYTES, "mine", "all", levels=60)
    assert grey.spec.levels == 60 and torch.equal(grey[19], torch.tensor([57.0, 58, 59]).float() / 59)
    for values in ("integer", "real"):
        read = from_rows(BYTES, "mine", "all", values=values)
        assert read.spec.levels is None and read[19].tolist() == [57.0, 58.0, 59.0]
    wide = from_rows(BYTES.astype(np.float64) * 100, "mine", "all", levels=5901)
    assert wide.spec.levels == 5901 and torch.equal(wide.images, torch.from_numpy(BYTES.astype(np.int32) * 100))


def test_splits_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="'mine' has train as uint8 and test as float64: save all its splits alike"):
        from_rows(SplitArrays({"train": BYTES, "test": BYTES[:4] / 255}), "mine", "train")


@pytest.mark.parametrize("value", [0, 7, 255, -1.5, 0.5, True])
def test_one_value_throughout_is_nothing_to_learn(value):
    array = np.full((20, 3), value)
    with pytest.raises(ValueError, match=f"'mine' holds the value {float(value):g} and no other: there is nothing to"):
        from_rows(array, "mine", "train")
    with pytest.raises(ValueError, match="there is nothing to learn"):
        from_rows(SplitArrays({"train": array, "test": np.eye(3).astype(array.dtype)}), "mine", "test")


def test_constant_rows_and_columns_are_data():
    array = GREY.copy()
    array[:, 1], array[3] = 200, 7
    assert from_rows(array, "mine", "all").spec.levels == 256


@pytest.mark.parametrize("make", [lambda a: a, lambda a: a / 255, lambda a: a * 0.37, lambda a: a.astype(">i4")])
def test_a_file_is_read_where_it_lies(make, tmp_path):
    np.save(tmp_path / "mine.npy", make(GREY))
    mapped = np.load(tmp_path / "mine.npy", mmap_mode="r")
    for split in ("all", "train", "test"):
        found, expected = from_rows(mapped, "mine", split), from_rows(make(GREY), "mine", split)
        assert np.shares_memory(found.stored._array, mapped)
        order = torch.randperm(len(expected))
        assert torch.equal(found.rows(order), expected.rows(order)) and torch.equal(found.images, expected.images)
        assert torch.equal(found.mean(), expected.mean()) and found.spec == expected.spec
