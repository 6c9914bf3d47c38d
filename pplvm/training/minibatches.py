"""Minibatches for `fit`, from given batches or from a data set."""

import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from pplvm.batch import Batch, as_tuple, without_conditions
from pplvm.distributed.ranks import size

__all__ = ["Rows", "minibatches"]

USUAL_SIZE = 100
"""Data in a batch where nobody says how many."""


@runtime_checkable
class Rows(Protocol):
    """A data set that gives any of its rows at once, with conditions, as `pplvm.digits()`.

    `batch(index, epoch)` is (x,) or (x, y, ...) of the rows of `index` (n,), drawn anew in each epoch perhaps.
    """

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, epoch: int = 0) -> Sequence[Tensor]: ...


def minibatches(
    data: Iterable[Batch] | Rows, epochs: int | None = None, batch_size: int | None = None
) -> tuple[Iterable[Batch], int | None]:
    """Iterate over batches, x (B, ...) or (x, y, ...); returns their number too if it is known.

    Arguments:
        data: batches that are made already, or data of which to make them: a tensor (N, ...), a TensorDataset of such,
            a data set of pplvm, or, with batch_size, a tuple (x, y, ...) of tensors (N, ...).
        epochs: times that all are gone through.
        batch_size: of batches that are made here, shuffled by torch's random state in every epoch.

    Raises:
        ValueError: epochs or batch_size is below 1, or does not go with such data; there are no data, or they are an
            array; a tuple holds data and their conditions, and batch_size is missing.

    Example:
        >>> batches, count = minibatches(torch.zeros(5, 2), epochs=2, batch_size=3)
        >>> [len(x) for x in batches], count
        ([3, 2, 3, 2], 4)
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if reason := _no_batches(data):
        raise ValueError(reason)
    if isinstance(data, Tensor) and epochs is batch_size is None:
        raise ValueError(
            f"a tensor {tuple(data.shape)} may be data or many batches: give batch_size=100 (or epochs=1) to make "
            "batches of its rows, or a list of batches"
        )
    if isinstance(data, Tensor | TensorDataset):
        data = _Rows(data.tensors if isinstance(data, TensorDataset) else (data,))
    elif batch_size is not None and isinstance(data, tuple) and all(isinstance(part, Tensor) for part in data):
        data = _Rows(as_tuple(data))
    elif isinstance(data, tuple) and (reason := _data_and_conditions(data)):
        raise ValueError(reason)
    if isinstance(data, Rows):
        return _from_rows(data, 1 if epochs is None else epochs, batch_size)
    if batch_size is not None:
        raise ValueError(
            f"batch_size is of data, a tensor, a TensorDataset or a data set of pplvm, and {type(data).__name__} gives "
            "batches of its own: leave batch_size out"
        )
    return _repeated(data, epochs)


def _no_batches(data: Any) -> str | None:
    """Why an object gives neither batches nor rows; None if it may."""
    kind = type(data).__name__
    if isinstance(data, Tensor | TensorDataset | Rows):
        return None if len(data) else "there are no data: 0 rows"
    if hasattr(data, "__array__"):
        return f"data are a {kind}: make them a tensor, torch.as_tensor(data, dtype=torch.float32)"
    return None


def _data_and_conditions(given: tuple[Any, ...]) -> str | None:
    """Why a tuple holds no batches, but data and their conditions; None if it may hold batches."""
    if len(given) < 2 or not all(isinstance(part, Tensor) and part.dim() for part in given):
        return None
    kinds = {(part.dim(), part.dtype) for part in given}
    if len(kinds) == 1 or len({len(part) for part in given}) > 1:
        return None
    shapes = ", ".join(str(tuple(part.shape)) for part in given)
    return (
        f"a tuple of tensors {shapes} looks like data and their conditions, and without batch_size each would be a "
        "batch: give batch_size=100 to make batches of their rows, or a list of batches"
    )


class _Rows:
    """Rows of tensors (N, ...)."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors[0])

    def batch(self, index: Tensor, epoch: int = 0) -> Sequence[Tensor]:
        return [tensor[index.to(tensor.device)] for tensor in self._tensors]


def _from_rows(data: Rows, epochs: int, batch_size: int | None) -> tuple[Iterable[Batch], int]:
    count = len(data)
    B = min(USUAL_SIZE, count) if batch_size is None else batch_size
    if not B <= count:
        raise ValueError(f"batch_size {B} is more than the {count} data: use at most {count}")
    if size() > 1:
        raise ValueError("many processes must share the data: give pplvm.Epochs(data, size, part=(rank, processes))")
    orders = ((epoch, torch.randperm(count).split(B)) for epoch in range(epochs))
    made = (without_conditions(data.batch(index, epoch)) for epoch, order in orders for index in order)
    return made, epochs * math.ceil(count / B)


def _repeated(batches: Iterable[Batch], epochs: int | None) -> tuple[Iterable[Batch], int | None]:
    count = len(batches) if isinstance(batches, Sized) else None
    if epochs is None:
        return batches, count
    if isinstance(batches, Iterator) and epochs > 1:
        raise ValueError(
            f"an iterator of batches is used up after one epoch, and {epochs} are asked for: give a list or a "
            "DataLoader, or the data themselves, fit(loss, data, optimizer, epochs=..., batch_size=...)"
        )
    return (x for _ in range(epochs) for x in batches), None if count is None else epochs * count
