"""Data sets that name their splits, as Hugging Face's and torchvision's do."""

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from pplvm.data.arrays import from_rows
from pplvm.data.dataset_splits import read_dataset

TRAIN = [{"image": np.full(2, i, np.float32), "label": i % 3} for i in range(40)]
VALID = [{"image": np.full(2, 100 + i, np.float32), "label": i % 3} for i in range(5)]
TEST = [{"image": np.full(2, 200 + i, np.float32), "label": i % 3} for i in range(9)]
SPLITS = ("train", "valid", "test")


def sizes(found, key=None):
    source = read_dataset(found, "mine", key)
    parts = {split: from_rows(source, "mine", split) for split in SPLITS}
    assert max(parts["train"].images.max(), -1) < 100 and (parts["test"].images >= 200).all()
    assert (parts["test"].labels == parts["test"].images[:, 0].long() % 100 % 3).all()
    return [len(part) for part in parts.values()]


@pytest.mark.parametrize("valid", ["valid", "validation", "val", "dev"])
def test_a_mapping_of_splits(valid):
    assert sizes({"train": TRAIN, "test": TEST}) == [36, 4, 9]
    assert sizes({"Train": TRAIN, valid: VALID, "test": TEST}, "image") == [40, 5, 9]
    assert sizes(lambda: {"train": TRAIN, "test": TEST}) == [36, 4, 9]


def test_what_is_left_out_of_a_mapping_is_told():
    remarks = read_dataset({"train": TRAIN, "test": TEST, "unsupervised": TEST}, "mine").remarks
    assert remarks == ("mine names its splits, 40 items in train, 9 items in test; left out: unsupervised",)


def test_a_class_that_takes_train_as_those_of_torchvision():
    class Images:
        def __init__(self, train: bool = True, transform=None):
            self.items = [(torch.from_numpy(item["image"]), item["label"]) for item in (TRAIN if train else TEST)]

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            return self.items[i]

    assert sizes(Images) == [36, 4, 9]
    assert len(read_dataset(Images(), "mine").arrays["all"]) == 40, "an instance is one data set"


def test_a_callable_that_takes_the_split():
    def all_three(split):
        return {"train": TRAIN, "validation": VALID, "test": TEST}[split]

    def two(split="train"):
        if split not in ("train", "test"):
            raise ValueError("unknown split")
        return TRAIN if split == "train" else TEST

    def asserting(split):
        assert split in ("train", "test")
        return TRAIN if split == "train" else TEST

    def careless(split: str):
        return TRAIN if split == "train" else TEST

    assert sizes(all_three) == [40, 5, 9]
    assert sizes(two) == [36, 4, 9]
    assert sizes(asserting) == [36, 4, 9]
    assert sizes(careless) == [36, 4, 9], "what it returns for valid is its test set"


def test_a_split_that_is_no_word_is_left_alone():
    found = read_dataset(lambda split=0.8, train=None: TRAIN, "mine")
    assert len(found.arrays["all"]) == 40 and found.remarks == ()


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def broken(split):
    raise RuntimeError("the disk is gone")


REFUSED = {
    "a number": (3, "mine is not a torch.utils.data.Dataset that has a length, or anything with __len__"),
    "a stream": (Stream(), "mine is not a torch.utils.data.Dataset that has a length"),
    "a word": ("train", "mine is not a torch.utils.data.Dataset that has a length"),
    "a callable of nothing": (lambda: None, "mine is not a torch.utils.data.Dataset that has a length"),
    "other names": ({"a": TRAIN, "b": TEST}, "mine is a mapping of a, b: call its data sets train, valid and test, or"),
    "no training data": ({"test": TEST}, "mine is a mapping of test: call its data sets train, valid and test"),
    "two test sets": (
        {"train": TRAIN, "test": TEST, "Testing": TEST},
        "two data sets for test among train, test, Testi",
    ),
    "a stream as a split": (
        {"train": TRAIN, "test": Stream()},
        "mine gives a Stream for test, which is not a torch.utils.data.Dataset",
    ),
    "one for all": (
        lambda split: TRAIN,
        "mine has the same items in train and test: give it other items for each split",
    ),
    "other shapes": (
        {"train": TRAIN, "test": TensorDataset(torch.zeros(4, 3))},
        r"data of test have shape \(3,\), but those of train \(2,\): give all one shape",
    ),
    "words in test": ({"train": TRAIN, "test": ["word"]}, r"item 0 of mine \(test\) begins with a str"),
    "another key in test": ({"train": TRAIN, "test": [{"label": 3}]}, r"item 0 of mine \(test\) has no entry 'image'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_things_are_refused(name):
    found, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        read_dataset(found, "mine", "image" if "another key" in name else None)


def test_an_error_of_the_callable_is_shown_as_it_is():
    with pytest.raises(RuntimeError, match="the disk is gone"):
        read_dataset(broken, "mine")
