"""Turns arrays into `ImageData`: interprets their values, checks rows, takes one split."""

__all__ = ["from_rows"]

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce

import numpy as np
import torch
from torch import Tensor

from pplvm.data.array_splits import SplitArrays
from pplvm.data.conditions import number_of_classes
from pplvm.data.image_data import ImageData
from pplvm.data.lazy_rows import LazyRows
from pplvm.data.value_interpretation import interpret_values
from pplvm.data.value_statistics import ValueStatistics, value_statistics


def from_rows(
    source: SplitArrays | np.ndarray,
    name: str,
    split: str,
    labels: Sequence[int] | np.ndarray | None = None,
    levels: int | None = None,
    values: str | None = None,
) -> ImageData:
    """Make a data set of one split's rows, which are read lazily; values are interpreted from all splits together.

    Two-valued arrays are binary, uint8 from 0 to 128 or more and floats k/255 grey; other integers and floats are read
    as they are. Smaller uint8 may be grey levels, dark images, counts or classes: which, has to be said.

    Arguments:
        source: an array (N, ..., D) of integers or floats, or arrays by the name of their split.
        name: what messages call it.
        split: "train", "valid", "test" or "all", as `SplitArrays.rows` has them.
        labels: N of them, of an array for which they are known.
        levels: stored whole numbers 0 to levels - 1 mean grey values k / (levels - 1).
        values: "grey", "integer" (read as they are: counts, classes, token ids) or "real".
    Raises ValueError for no data, one value throughout, NaN or infinity, numbers that cannot be read as told, small
        uint8 of which nothing is told, and another split.

    Example:
        >>> from_rows(np.array([[0, 255], [7, 0]], np.uint8), "toy", "all").spec.levels
        256
        >>> from_rows(np.array([[0, 16], [7, 0]], np.uint8), "toy", "all", levels=17)[0].tolist()
        [0.0, 1.0]
    """
    if not isinstance(source, SplitArrays):
        source = SplitArrays({"all": source}, {} if labels is None else {"all": np.asarray(labels)})
    for array in source.arrays.values():
        _check_rows(array, name)
    key, rows = source.rows(split, name)
    found = _found(source, name)
    read = interpret_values(found, name, values, levels, source.levels)
    array = source.arrays[key]
    some = None if len(rows) == len(array) else rows  # in their order, so that as many are all
    stored = LazyRows(array, some, read.dtype, read.factor, (found.low, found.high))
    numbers = torch.from_numpy(source.labels[key][rows]) if key in source.labels else None
    data = ImageData(stored, name, read.levels, numbers, read.top)
    every = number_of_classes(*map(torch.from_numpy, source.labels.values()))
    data.spec = replace(data.spec, num_classes=every)
    data.no_labels = source.no_labels.get(key, "")
    data.arrays = {word: partial(_rows, read, rows) for word, read in source.beside.get(key, {}).items()}
    return data


def _rows(read: Callable[[], np.ndarray], rows: np.ndarray) -> Tensor:
    """A copy of some rows of an array, as torch holds their numbers."""
    found = read()[rows]
    return torch.from_numpy(found.astype({"b": np.bool_, "f": np.float32}.get(found.dtype.kind, np.int64)))


def _found(source: SplitArrays, name: str) -> ValueStatistics:
    """Value statistics of all arrays together.

    Raises:
        ValueError: one is not stored like the others, or what is trained on is one value throughout.
    """
    each: dict[str, ValueStatistics] = {}
    for split, array in source.arrays.items():
        each[split] = value_statistics(array, name if split == "all" else f"{name}, {split}")
    first, *others = each.values()
    for split, there in each.items():
        if there.stored != first.stored:
            kinds = " and ".join(f"{key} as {array.dtype}" for key, array in source.arrays.items())
            raise ValueError(f"data set {name!r} has {kinds}: save all its splits alike")
        if split in ("all", "train") and there.low == there.high:
            raise ValueError(f"data set {name!r} holds the value {there.low:g} and no other: there is nothing to learn")
    return reduce(operator.or_, others, first)


def _check_rows(array: np.ndarray, name: str) -> None:
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"data set {name!r} is empty, its shape is {array.shape}: give it at least one row")
    if array.ndim == 1:
        raise ValueError(f"data set {name!r} is one row of {len(array)} numbers: give it rows, as ({len(array)}, 1)")
