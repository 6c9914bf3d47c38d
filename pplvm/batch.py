"""Batches: data x and their conditions (labels, masks), one row a datum; x alone or a tuple (x, y, ...).

Programs are called as model(x) or model(x, y), guide(x) or guide(x, y). Conditions are given, and never modelled.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Batch", "as_tuple", "batch_rows", "to_device", "without_conditions"]

Batch = Tensor | Sequence[Tensor]
"""Data (B, *shape), or a sequence of them and their conditions (B, ...)."""


def as_tuple(batch: Batch) -> tuple[Tensor, ...]:
    """Return a batch as the tuple (x,) or (x, y, ...), the positional arguments of a program.

    Raises:
        TypeError: a part is no tensor.
        ValueError: there is no part, or the parts differ in their number of rows.

    Example:
        >>> [part.shape for part in as_tuple([torch.zeros(3, 8), torch.zeros(3)])]
        [torch.Size([3, 8]), torch.Size([3])]
    """
    parts = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    if not parts:
        raise ValueError("a batch has no part: give data x, or a tuple (x, y) of data and their conditions")
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"a part of a batch is a {type(part).__name__}: data and conditions are tensors (B, ...)")
    if len(sizes := {len(part) if part.dim() else 0 for part in parts}) > 1:
        raise ValueError(
            f"the parts of a batch have {', '.join(str(tuple(part.shape)) for part in parts)} as shapes: data and "
            f"conditions need as many rows, not {' and '.join(map(str, sorted(sizes)))}"
        )
    return parts


def without_conditions(parts: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """Return x itself where a batch has no conditions, else the tuple (x, y, ...)."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def batch_rows(parts: Sequence[Tensor], index: Tensor | slice) -> tuple[Tensor, ...]:
    """Select rows of each part of a batch by an index (n,) or a slice."""
    return tuple(part[index] for part in parts)


def to_device(parts: Sequence[Tensor], device: torch.device | str | None) -> tuple[Tensor, ...]:
    """Move each part of a batch to a device."""
    return tuple(part.to(device) for part in parts)
