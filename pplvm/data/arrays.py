"""From an array of numbers to `ImageData`: levels found, bad rows refused, split made."""

__all__ = ["from_rows"]

from collections.abc import Sequence

import numpy as np
import torch

from pplvm.data.image_data import ImageData
from pplvm.data.source import Source

LARGEST_INTEGER = 2**24  # up to which float32 holds every one


def from_rows(
    source: Source | np.ndarray, name: str, split: str, labels: Sequence[int] | np.ndarray | None = None
) -> ImageData:
    """The rows of one split. Two-valued arrays become binary, uint8 and floats k/255 grey; others stay as they are.

    Integers of other types are numbers, such as counts and token ids, unless `binarize` takes them for grey levels.

    Arguments:
        source: an array (N, ..., D) of integers or floats, or arrays by the name of their split.
        name: what messages call it.
        split: "train", "valid", "test" or "all", as `Source.rows` has them.
        labels: N of them, of an array for which they are known.
    Raises ValueError for no data, NaN or infinity, other numbers, and another split.

    Example:
        >>> from_rows(np.array([[0, 255], [7, 0]], np.uint8), "toy", "all").spec.levels
        256
    """
    if not isinstance(source, Source):
        source = Source({"all": source}, {} if labels is None else {"all": np.asarray(labels)})
    for array in source.arrays.values():
        _check_rows(array, name)
    key, rows = source.rows(split, name)
    array = source.arrays[key]
    stored = _floats(array, name) if array.dtype.kind == "f" else _integers(array, name)
    images = torch.from_numpy(stored)[torch.from_numpy(rows)]
    numbers = torch.from_numpy(source.labels[key][rows]) if key in source.labels else None
    if stored.dtype != np.uint8:
        return ImageData(images, name, None, numbers, top=1)
    top = 255 if stored.max() > 1 else 1
    binary = bool(((stored == 0) | (stored == top)).all())
    return ImageData(images, name, 2 if binary else 256, numbers, top)


def _check_rows(array: np.ndarray, name: str) -> None:
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"data set {name!r} is empty, its shape is {array.shape}: give it at least one row")
    if array.ndim == 1:
        raise ValueError(f"data set {name!r} is one row of {len(array)} numbers: give it rows, as ({len(array)}, 1)")


def _floats(array: np.ndarray, name: str) -> np.ndarray:
    """Float32, or uint8 if every value is exactly k/255, as torchvision's ToTensor makes them."""
    with np.errstate(over="ignore"):  # too large for float32 is infinity, refused below
        rows = array.astype(np.float32)
    bad = ~np.isfinite(rows).reshape(len(rows), -1).all(1)  # (N,)
    if bad.any():
        raise ValueError(f"row {bad.argmax()} of data set {name!r} holds NaN or infinity: remove or repair it")
    if rows.min() < 0 or rows.max() > 1:
        return rows
    numerators = np.rint(rows * np.float32(255))
    return numerators.astype(np.uint8) if (numerators / np.float32(255) == rows).all() else rows


def _integers(array: np.ndarray, name: str) -> np.ndarray:
    """Uint8 if they were, or if they have two values as images of black and white do; else int32."""
    if array.dtype.kind not in "biu":
        raise ValueError(f"data set {name!r} holds {array.dtype}: save images as uint8 and other numbers as float32")
    if array.dtype.kind == "b" or array.dtype == np.uint8 or any(np.isin(array, (0, top)).all() for top in (1, 255)):
        return array.astype(np.uint8)
    if max(-int(array.min()), int(array.max())) > LARGEST_INTEGER:
        raise ValueError(
            f"data set {name!r} holds integers beyond 2^24, which float32 cannot tell apart: scale them, or number "
            "what they name from 0"
        )
    return array.astype(np.int32)
