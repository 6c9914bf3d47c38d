"""Data sets by split: from a mapping, or from a callable with an argument for the split."""

__all__ = ["read_dataset"]

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pplvm.data.array_splits import SplitArrays, label_numbers
from pplvm.data.dataset_items import kind_of, read_items
from pplvm.data.split_names import split_of

VALID_WORDS = ("valid", "validation", "val")


def read_dataset(found: Any, name: str, key: str | None = None) -> SplitArrays:
    """Read the items of a data set, or of one for each split, into memory, as `read_items`.

    A mapping names splits by its keys, train (or training), valid (val, validation, dev) and test (testing), as
    Hugging Face's DatasetDict does. A callable that takes `train=`, as those of torchvision do, is called with True
    and False; one that takes `split=` with "train" and "test", and with "valid", "validation" or "val", for which it
    may raise a KeyError, ValueError or AssertionError if it has none.

    Arguments:
        found: a data set, a mapping of such by split, or a callable that returns either.
        name: what messages call it.
        key: of the datum in items that are mappings.
    Raises ValueError for anything else, test items that are the training items, and what `read_items` refuses.
    """
    datasets, left_out = _datasets(found, name)
    whole = list(datasets) == ["all"]
    for split, dataset in datasets.items():
        if not _is_dataset(dataset):
            where = f"{name} " if whole else f"{name} gives {kind_of(dataset)} for {split}, which "
            raise ValueError(
                f"{where}is not a torch.utils.data.Dataset that has a length, or anything with __len__ and "
                "__getitem__: name one that is"
            )
    read = {split: read_items(part, name if whole else f"{name} ({split})", key) for split, part in datasets.items()}
    if _is_called_by_split(found) and "valid" in read and _same(read, "valid", ("train", "test")):
        del read["valid"]  # it does not know the word, and returned what it has
    if _same(read, "test", ("train",)):
        raise ValueError(f"{name} has the same items in train and test: give it other items for each split")
    labels = {split: part.labels for split, part in read.items() if part.labels is not None}
    counts = ", ".join(f"{len(part.rows):,} items in {split}" for split, part in read.items())
    left = f"; left out: {', '.join(left_out)}" if left_out else ""
    remarks = () if whole else (f"{name} names its splits, {counts}{left}",)
    return SplitArrays({split: part.rows for split, part in read.items()}, label_numbers(labels), remarks)


def _datasets(found: Any, name: str) -> tuple[dict[str, Any], list[str]]:
    """Data sets by split, or one under "all", and the names of those that belong to no split."""
    if _is_called_by_split(found):
        return _called(found), []
    made = found() if callable(found) and not _is_dataset(found) else found
    if isinstance(made, Mapping):
        return _mapped(made, name)
    return {"all": made}, []


def _is_dataset(found: Any) -> bool:
    kind = type(found)
    indexed = hasattr(kind, "__len__") and hasattr(kind, "__getitem__")
    return indexed and not isinstance(found, type | str | bytes)


def _mapped(found: Mapping[Any, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    parts: dict[str, Any] = {}
    for word, dataset in found.items():
        split = split_of(str(word))
        if split in parts:
            raise ValueError(f"{name} has two data sets for {split} among {', '.join(map(str, found))}: leave one out")
        if split is not None:
            parts[split] = dataset
    if "train" not in parts:
        raise ValueError(
            f"{name} is a mapping of {', '.join(map(str, found)) or 'nothing'}: call its data sets train, valid and "
            "test, or name one of them"
        )
    left_out = [str(word) for word in found if split_of(str(word)) is None]
    return ({"all": parts["train"]} if list(parts) == ["train"] else parts), left_out


def _split_argument(found: Any) -> str | None:
    """The argument of a callable that selects the split: "train", a bool, or "split", a word."""
    if not callable(found) or _is_dataset(found):
        return None
    try:
        takes = inspect.signature(found).parameters
    except (TypeError, ValueError):  # some that are written in C have none
        return None
    for argument, kind in (("train", bool), ("split", str)):
        default = takes[argument].default if argument in takes else None
        if default is inspect.Parameter.empty or isinstance(default, kind):
            return argument
    return None


def _is_called_by_split(found: Any) -> bool:
    return _split_argument(found) is not None


def _called(found: Callable[..., Any]) -> dict[str, Any]:
    """Call a callable once for each split."""
    if _split_argument(found) == "train":
        return {"train": found(train=True), "test": found(train=False)}
    parts = {"train": found(split="train"), "test": found(split="test")}
    for word in VALID_WORDS:
        try:
            return parts | {"valid": found(split=word)}
        except (KeyError, ValueError, AssertionError):
            continue
    return parts


def _same(read: Mapping[str, Any], split: str, others: tuple[str, ...]) -> bool:
    return split in read and any(
        other in read and np.array_equal(read[split].rows, read[other].rows) for other in others
    )
