"""Splits that a source names are honoured; the rest are cut by one rule."""

import numpy as np
import pytest

from pplvm.data.array_splits import SplitArrays, label_numbers
from pplvm.data.arrays import from_rows

TRAIN, TEST = np.arange(40.0)[:, None] - 0.5, 100 + np.arange(7.0)[:, None]


def test_no_named_test_datum_is_ever_in_training():
    source = SplitArrays({"train": TRAIN, "test": TEST}, {"train": np.arange(40), "test": np.arange(7)})
    parts = {split: from_rows(source, "mine", split) for split in ("train", "valid", "test")}
    values = {split: data.images[:, 0].tolist() for split, data in parts.items()}
    assert values["test"] == TEST[:, 0].tolist() and parts["test"].labels.tolist() == list(range(7))
    assert sorted(values["train"] + values["valid"]) == TRAIN[:, 0].tolist()
    assert len(values["valid"]) == 4 and (parts["valid"].labels.numpy() - 0.5).tolist() == values["valid"]


def test_a_named_validation_split_leaves_the_training_data_whole():
    source = SplitArrays({"train": TRAIN, "valid": TEST})
    assert len(from_rows(source, "mine", "train")) == 40 and len(from_rows(source, "mine", "valid")) == 7
    with pytest.raises(ValueError, match="names its splits, train, valid, and has no 'test'"):
        from_rows(source, "mine", "test")


def test_other_names_and_shapes_are_refused():
    with pytest.raises(ValueError, match="use train, valid, test, or all"):
        SplitArrays({"test": TEST})
    with pytest.raises(ValueError, match="give all one shape"):
        SplitArrays({"train": TRAIN, "test": TEST.reshape(1, 7)})


def test_labels_are_numbered_once_for_all_splits():
    found = label_numbers({"train": ["cat", "dog", 3], "test": ["bird", "dog"]})
    assert {split: numbers.tolist() for split, numbers in found.items()} == {"train": [2, 3, 0], "test": [1, 3]}
    kept = label_numbers({"train": [5, 7], "test": np.array([-1], np.int8)})
    assert {split: numbers.tolist() for split, numbers in kept.items()} == {"train": [5, 7], "test": [-1]}
    assert label_numbers({"train": [10**30, 5]})["train"].tolist() == [0, 1], "beyond 64 bits they are words"


def test_what_may_be_asked_for_is_told():
    with pytest.raises(ValueError, match="names its splits, train, test, and has no 'all': use train, valid, test"):
        from_rows(SplitArrays({"train": TRAIN, "test": TEST}), "mine", "all")
