"""Data of which something was computed once: batches hold that in place of x."""

__all__ = ["EncodedData"]

from typing import Any

import torch
from torch import Tensor

from pplvm.data.image_data import ImageData


class EncodedData(ImageData):
    """A data set whose batches are (*encoded, *conditions); name, checksum and description stay those of the data.

    Arguments:
        data: that were encoded.
        encoded: what was computed of each datum, (N, ...) each.

    Raises:
        ValueError: it has another number of rows.

    Example:
        >>> data = ImageData(torch.rand(3, 2), "toy", levels=None)
        >>> encoded = EncodedData(data, torch.zeros(3, 5), torch.zeros(3))
        >>> [tuple(part.shape) for part in encoded.batch(torch.tensor([1]))]
        [(1, 5), (1,)]
    """

    def __init__(self, data: ImageData, *encoded: Tensor) -> None:
        vars(self).update(vars(data))
        if rows := [len(part) for part in encoded if len(part) != len(data)]:
            raise ValueError(f"data set {data.spec.name!r} has {len(data)} data, and {rows[0]} were encoded")
        self.encoded = encoded

    def batch(self, index: Tensor, epoch: int = 0) -> tuple[Tensor, ...]:
        """What was computed of the data of `index` (n,), and their conditions; the same in every epoch."""
        return tuple(part[index.to(part.device)] for part in (*self.encoded, *self.conditions))

    def to(self, device: torch.device | str) -> Any:
        found = super().to(device)
        found.encoded = tuple(part.to(device) for part in self.encoded)
        return found
