"""Splits that a source names are honoured; the rest are cut by one rule."""

import numpy as np
import pytest

from pplvm.data.arrays import from_rows
from pplvm.data.source import Source

TRAIN, TEST = np.arange(40.0)[:, None] - 0.5, 100 + np.arange(7.0)[:, None]


def test_no_named_test_datum_is_ever_in_training():
    source = Source({"train": TRAIN, "test": TEST}, {"train": np.arange(40), "test": np.arange(7)})
    parts = {split: from_rows(source, "mine", split) for split in ("train", "valid", "test")}
    values = {split: data.images[:, 0].tolist() for split, data in parts.items()}
    assert values["test"] == TEST[:, 0].tolist() and parts["test"].labels.tolist() == list(range(7))
    assert sorted(values["train"] + values["valid"]) == TRAIN[:, 0].tolist()
    assert len(values["valid"]) == 4 and (parts["valid"].labels.numpy() - 0.5).tolist() == values["valid"]


def test_a_named_validation_split_leaves_the_training_data_whole():
    source = Source({"train": TRAIN, "valid": TEST})
    assert len(from_rows(source, "mine", "train")) == 40 and len(from_rows(source, "mine", "valid")) == 7
    with pytest.raises(ValueError, match="names its splits, train, valid, and has no 'test'"):
        from_rows(source, "mine", "test")


def test_other_names_and_shapes_are_refused():
    with pytest.raises(ValueError, match="use train, valid, test, or all"):
        Source({"test": TEST})
    with pytest.raises(ValueError, match="give all one shape"):
        Source({"train": TRAIN, "test": TEST.reshape(1, 7)})
