"""Names of splits and labels, in the spellings that are common."""

import pytest

from pplvm.data.split_names import name_parts, split_of


@pytest.mark.parametrize("word", ["train", "Training", "TRAIN"])
def test_words_for_training(word):
    assert split_of(word) == "train"


@pytest.mark.parametrize("word", ["valid", "val", "Validation", "dev"])
def test_words_for_validation(word):
    assert split_of(word) == "valid"


@pytest.mark.parametrize("word", ["trains", "tested", "latest", "cats", ""])
def test_other_words_are_none(word):
    assert split_of(word) is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("x_train", ("train", "x", False)),
        ("X_test", ("test", "x", False)),
        ("train", ("train", "", False)),
        ("test_images", ("test", "images", False)),
        ("images-val", ("valid", "images", False)),
        ("y_train", ("train", "y", True)),
        ("Train.Labels", ("train", "labels", True)),
        ("mnist_train", ("train", "mnist", False)),
        ("trainX", ("train", "x", False)),
        ("val2017", ("valid", "2017", False)),
        ("Test Set", ("test", "set", False)),
        ("train\\001", ("train", "001", False)),
        ("x", (None, "x", False)),
        ("labels", (None, "labels", True)),
        ("x_train_test", (None, "x_train_test", False)),
        ("train_val_images", (None, "train_val_images", False)),
    ],
)
def test_a_name_has_a_split_a_stem_and_a_kind(name, parts):
    assert name_parts(name) == parts
