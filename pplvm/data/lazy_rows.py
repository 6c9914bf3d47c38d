"""Rows of an array that are read lazily, from memory or a file, and converted as they are read."""

__all__ = ["FileChanged", "LazyRows", "VALUES_AT_ONCE", "chunk_slices"]

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
    """A file was modified while its values are read from it."""


class LazyRows:
    """Some rows of an array, read lazily as another dtype; the array is neither copied nor written to.

    Arguments:
        array: (N, ...) numbers, perhaps an `np.memmap`.
        rows: (n,) which of them, in which order; all unless given.
        dtype: of what is read: uint8, int32 or float32.
        factor: by which stored values are multiplied, and then rounded: 255 for fractions k/255.
        extremes: the lowest and the highest value of the array, or of all splits of the data set.

    Example:
        >>> LazyRows(np.array([[0.0], [0.4], [1.0]]), None, np.uint8, 255, (0, 1)).take(torch.tensor([2, 1])).tolist()
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

    def unsqueeze(self, dim: int) -> "LazyRows":
        """As `torch.Tensor.unsqueeze`, lazily."""
        return self._viewed(np.expand_dims(self._array, dim))

    def movedim(self, source: int, destination: int) -> "LazyRows":
        """As `torch.Tensor.movedim`, lazily."""
        return self._viewed(np.moveaxis(self._array, source, destination))

    def _viewed(self, array: np.ndarray) -> "LazyRows":
        found = copy.copy(self)  # which reads from the same file
        found._array, found.shape = array, (len(self), *array.shape[1:])
        return found

    def take(self, index: Tensor | slice) -> Tensor:
        """Copy the rows of an index (n,), (n, ...).

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
        """Copy all rows to a device."""
        kept: Tensor | None = None
        start = 0
        for part in chunk_slices(self.shape):
            found = self.take(part)
            kept = found.new_empty(self.shape, device=device) if kept is None else kept
            kept[start : start + len(found)] = found.to(device)
            start += len(found)
        return torch.empty(self.shape) if kept is None else kept


def _file_of(array: np.ndarray | None) -> str | None:
    """The file that an array is memory-mapped from; None if it is in memory."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return None if array is None or array.filename is None else str(array.filename)


def _state_of(file: str | None) -> tuple[int, ...]:
    """Inode, size and modification time of a file; empty if there is none."""
    try:
        found = os.stat(file) if file else None
    except OSError:
        return ()
    return () if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def chunk_slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices that cover all rows of an array of this shape, each small enough to be converted at once."""
    size = max(1, VALUES_AT_ONCE // max(1, math.prod(shape[1:])))
    return (slice(start, min(start + size, shape[0])) for start in range(0, shape[0], size))
