"""Reads the items of a map-style data set (torch, torchvision, Hugging Face) into one array."""

__all__ = ["DatasetRows", "kind_of", "read_items"]

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pplvm.data.image_files import pixels_of

DATA_ENTRIES = ("image", "x", "pixel_values", "data", "img")
LABEL_ENTRIES = ("label", "labels", "target", "y")

MOST_BYTES = 2**35
"""Of all items in memory."""


class DatasetRows(NamedTuple):
    """The data of all items, (N, ...), and their labels if every item has an integer one."""

    rows: np.ndarray
    labels: list[int] | None


class Entries(NamedTuple):
    """Where an item holds its datum and its label: index of a tuple or key of a mapping, None if nowhere."""

    datum: int | str | None
    label: int | str | None


def read_items(dataset: Any, name: str, key: str | None = None) -> DatasetRows:
    """Copy the items of a data set with `__len__` and `__getitem__` one by one into one array.

    Arguments:
        dataset: of tensors, numpy arrays or PIL images, of tuples that begin with one, or of mappings that hold one.
        name: what messages call it.
        key: of the datum in items that are mappings; else the only entry that may be one, or the one called image, x,
            pixel_values, data or img.
    Raises ValueError for other items, items of different shapes, and more than fit in memory.

    Example:
        >>> read_items([{"image": np.zeros(2), "label": 3}, {"image": np.ones(2), "label": 1}], "toy").labels
        [3, 1]
    """
    size = len(dataset)
    if size == 0:
        return DatasetRows(np.empty(0), None)
    item = _item(dataset, 0, name)
    entries = _entries(item, f"item 0 of {name}", key)
    first = _datum(item, entries, f"item 0 of {name}")
    if size * first.nbytes > MOST_BYTES:
        raise ValueError(
            f"{name} has {size:,} items of shape {first.shape}, more than fit in {MOST_BYTES / 2**30:g} GiB"
        )
    rows = np.empty((size, *first.shape), first.dtype)
    labels: list[int | None] = []
    for number in range(size):
        item = _item(dataset, number, name) if number else item
        where = f"item {number} of {name}"
        rows[number] = _alike(_datum(item, entries, where), first, where, name)
        labels.append(_label(item, entries))
    known = [label for label in labels if label is not None]
    return DatasetRows(rows, known if len(known) == size else None)


def _item(dataset: Any, number: int, name: str) -> Any:
    """One item of the data set, with its errors reported as the data set's.

    Raises:
        ValueError: it cannot be had, for whatever reason.
    """
    try:
        return dataset[number]
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(
            f"item {number} of {name} cannot be read ({reason}): repair what its __getitem__ does"
        ) from error


def _entries(item: Any, where: str, key: str | None) -> Entries:
    if isinstance(item, Mapping):
        datum = _data_entry(item, where, key)
        label = next((e for e in item if str(e).lower() in LABEL_ENTRIES and e != datum), None)
        return Entries(datum, label)
    if key is not None:
        raise ValueError(f"{where} is {kind_of(item)}, which has no entry {key!r}: leave the key out")
    if isinstance(item, tuple | list) and item and not _is_datum(item):
        return Entries(0, 1 if len(item) > 1 else None)
    return Entries(None, None)


def _data_entry(item: Mapping[Any, Any], where: str, key: str | None) -> Any:
    listed = ", ".join(f"{entry} ({_kind(value)})" for entry, value in item.items()) or "none"
    if key is not None:
        if key not in item:
            raise ValueError(f"{where} has no entry {key!r}: its entries are {listed}")
        return key
    data = [entry for entry, value in item.items() if _is_datum(value) and str(entry).lower() not in LABEL_ENTRIES]
    possible = [entry for entry in data if math.prod(_shape(item[entry])) > 1]
    possible = possible or [entry for entry in data if len(_shape(item[entry]))]
    named = [entry for entry in possible if str(entry).lower() in DATA_ENTRIES]
    for found in (possible, named):
        if len(found) == 1:
            return found[0]
    raise ValueError(f"{where} needs a key for the entry that is the datum: its entries are {listed}")


def _datum(item: Any, entries: Entries, where: str) -> np.ndarray:
    """The datum of an item as an array, floats as float32."""
    value = item
    if entries.datum is not None:
        try:
            value = item[entries.datum]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{where} is not built as item 0 is, it has no entry {entries.datum!r}") from error
    if not _is_datum(value):
        begins = f"has as {entries.datum!r}" if isinstance(entries.datum, str) else "begins with"
        raise ValueError(
            f"{where} {begins} {kind_of(value)}: return a tensor, an array or a PIL image, or a tuple that begins "
            "with one"
        )
    try:
        found = _array(value)
    except ValueError as error:
        raise ValueError(f"{where} cannot be read ({error})") from error
    if found.dtype.kind != "f":
        return found
    with np.errstate(over="ignore"):  # infinity is refused with its row by whoever makes data of it
        return found.astype(np.float32, copy=False)


def _is_datum(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray) or _is_image(value):
        return True
    return (
        isinstance(value, list) and isinstance(_first_leaf(value), int | float) and _array(value).dtype.kind in "biuf"
    )


def _first_leaf(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return value


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    if _is_image(value):
        return pixels_of(value)
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths
        return np.asarray(value, object)


def _is_image(value: Any) -> bool:
    from PIL import Image

    return isinstance(value, Image.Image)


def _shape(value: Any) -> tuple[int, ...]:
    return (value.height, value.width) if _is_image(value) else tuple(np.shape(value))


def kind_of(value: Any) -> str:
    """The class of a value with its article, and its shape if it has one, for messages."""
    kind = _kind(value)
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} {_shape(value)}" if isinstance(value, Tensor | np.ndarray) or _is_image(value) else kind


def _alike(datum: np.ndarray, first: np.ndarray, where: str, name: str) -> np.ndarray:
    """Require the shape and dtype kind of the first datum."""
    if datum.shape != first.shape:
        raise ValueError(f"{where} has shape {datum.shape}, but item 0 of {name} has {first.shape}: give all one shape")
    if not np.can_cast(datum.dtype, first.dtype, "safe"):
        raise ValueError(f"{where} holds {datum.dtype}, but item 0 of {name} {first.dtype}: give all one type")
    return datum


def _label(item: Any, entries: Entries) -> int | None:
    """The label of an item, None if it has no integer there."""
    try:
        value = None if entries.label is None else item[entries.label]
    except (KeyError, IndexError):
        return None
    if isinstance(value, Tensor) and not value.dim() and not value.is_floating_point() and not value.is_complex():
        return int(value)
    if isinstance(value, np.ndarray) and not value.ndim and value.dtype.kind in "biu":
        return int(value)
    return int(value) if isinstance(value, int | np.integer) else None
