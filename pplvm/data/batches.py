"""Minibatches, x alone or (x, y, ...) with conditions, in an order that depends on (seed, epoch) alone."""

__all__ = ["batches", "fixed_batch"]

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pplvm.batch import Batch, to_device, without_conditions
from pplvm.data.counter_rng import permutation
from pplvm.data.image_data import ImageData


def batches(
    data: ImageData | Batch,
    size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    device: torch.device | str | None = None,
) -> Iterator[Tensor | Any]:
    """Iterate over the minibatches of one epoch, (B, *shape) float32; with conditions tuples (x, y, ...).

    Arguments:
        data: to draw from, a data set, a tensor (N, *shape) or a tuple (x, y, ...) of such; if dynamically binarized,
            drawn anew for the epoch.
        size: the number of data in a batch, B.
        seed, epoch: decide the order.
        shuffle: False for the order of the data.
        drop_last: leave out a last batch that is smaller than the others.
        device: where the batches go.
    Raises ValueError, at once, for a size below 1 or above the number of data, TypeError for data of another kind.

    Example:
        >>> [tuple(x.shape) for x in batches(torch.zeros(5, 2), 2)]
        [(2, 2), (2, 2), (1, 2)]
    """
    data = ImageData.of(data)
    _check_size(data, size)
    order = permutation(len(data), seed, epoch) if shuffle else torch.arange(len(data))  # (N,)
    stop = len(data) - len(data) % size if drop_last else len(data)
    starts = range(0, stop, size)
    return (without_conditions(to_device(data.batch(order[i : i + size], epoch), device)) for i in starts)


def fixed_batch(
    data: ImageData | Batch, size: int, seed: int = 0, number: int = 0, device: torch.device | str | None = None
) -> Tensor | Any:
    """Minibatch `number` of the order that `seed` fixes, (size, *shape), as `batches` gives it in epoch 0.

    Raises ValueError for a size as in `batches` and for a number past the last whole minibatch.
    """
    data = ImageData.of(data)
    _check_size(data, size)
    if not 0 <= number < len(data) // size:
        raise ValueError(
            f"there is no minibatch {number} of {size} in data set {data.spec.name!r}: "
            f"its {len(data)} data make the minibatches 0 to {len(data) // size - 1}"
        )
    index = permutation(len(data), seed)[number * size : (number + 1) * size]
    return without_conditions(to_device(data.batch(index), device))


def _check_size(data: ImageData, size: int) -> None:
    if size < 1:
        raise ValueError(f"the batch size is {size}: it must be at least 1")
    if size > len(data):
        raise ValueError(
            f"the batch size {size} is larger than data set {data.spec.name!r}, which has {len(data)} data: "
            f"use at most {len(data)}"
        )
