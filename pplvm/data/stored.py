"""Rows of an array that stays where it lies, in memory or in a file, converted as they are read."""

__all__ = ["VALUES_AT_ONCE", "FileChanged", "Stored", "in_parts"]

import copy
import math
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

VALUES_AT_ONCE = 2**18
"""Values that are converted at once wherever all of a data set is gone through: 2 MB in float64, which caches hold."""


class FileChanged(OSError):
    """A file was written to while its values are read from where they lie."""


class Stored:
    """Some rows of an array, read as another dtype; the array is neither copied nor written to.

    Arguments:
        array: (N, ...) numbers, perhaps an `np.memmap`.
        rows: (n,) which of them, in which order; all unless given.
        dtype: of what is read: uint8, int32 or float32.
        factor: by which stored values are multiplied, and then rounded: 255 for fractions k/255.
        extremes: the lowest and the highest value of the array, or of all splits of the data set.

    Example:
        >>> Stored(np.array([[0.0], [0.4], [1.0]]), None, np.uint8, 255, (0, 1)).take(torch.tensor([2, 1])).tolist()
        [[255], [102]]
    """

    def __init__(
        self,
        array: np.ndarray,
        rows: np.ndarray | None,
        dtype: type[np.generic],
        factor: int,
        extremes: tuple[float, float],
    ) -> None:
        self._array, self._rows, self._dtype = np.asarray(array), rows, np.dtype(dtype)
        self.factor = factor
        self.extremes = (extremes[0] * factor, extremes[1] * factor)
        self._file = _file_of(self._array)
        self._state = _state_of(self._file)
        self.shape = (len(self._array) if rows is None else len(rows), *self._array.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def is_floating_point(self) -> bool:
        """Whether what is read are float32 values."""
        return self._dtype.kind == "f"

    def unsqueeze(self, dim: int) -> "Stored":
        """The same rows with one dimension more, as torch has it."""
        return self._viewed(np.expand_dims(self._array, dim))

    def movedim(self, source: int, destination: int) -> "Stored":
        """The same rows with a dimension moved, as torch has it."""
        return self._viewed(np.moveaxis(self._array, source, destination))

    def _viewed(self, array: np.ndarray) -> "Stored":
        found = copy.copy(self)  # which reads from the same file
        found._array, found.shape = array, (len(self), *array.shape[1:])
        return found

    def take(self, index: Tensor | slice) -> Tensor:
        """The rows of an index (n,), in memory of their own, (n, ...).

        Raises:
            FileChanged: they lie in a file that was written to since; one that was removed or replaced by another is
                still there for those who read it.
        """
        if self._file and (now := _state_of(self._file)) != self._state and now[:1] == self._state[:1]:
            raise FileChanged(f"{self._file} was written to while its data are used: start again, on a file that stays")
        which = index if isinstance(index, slice) else index.numpy(force=True)
        found = self._array[which if self._rows is None else self._rows[which]]
        if self.factor != 1:
            found = np.rint(found.astype(np.float32) * np.float32(self.factor))
        own = not np.may_share_memory(found, self._array)
        return torch.from_numpy(found.astype(self._dtype, order="C", copy=not own))

    def to(self, device: torch.device | str) -> Tensor:
        """All rows, in the memory of a device."""
        kept: Tensor | None = None
        start = 0
        for part in in_parts(self.shape):
            found = self.take(part)
            kept = found.new_empty(self.shape, device=device) if kept is None else kept
            kept[start : start + len(found)] = found.to(device)
            start += len(found)
        return torch.empty(self.shape) if kept is None else kept


def _file_of(array: np.ndarray | None) -> str | None:
    """The file that an array lies in, None if it is in memory."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return None if array is None or array.filename is None else str(array.filename)


def _state_of(file: str | None) -> tuple[int, ...]:
    """Inode, size and time of the last change of a file, nothing if there is none."""
    try:
        found = os.stat(file) if file else None
    except OSError:
        return ()
    return () if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def in_parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices that together are all rows of an array of this shape, few enough values each to be converted at once."""
    size = max(1, VALUES_AT_ONCE // max(1, math.prod(shape[1:])))
    return (slice(start, min(start + size, shape[0])) for start in range(0, shape[0], size))
