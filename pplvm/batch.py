"""A batch is data x and their conditions (labels, masks), one row a datum: x alone, or a tuple (x, y, ...).

Programs are called as model(x) or model(x, y), guide(x) or guide(x, y). Conditions are given, and never modelled.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Batch", "as_tuple", "moved", "rows_of", "without_conditions"]

Batch = Tensor | Sequence[Tensor]
"""Data (B, *shape), or a sequence of them and their conditions (B, ...)."""


def as_tuple(batch: Batch) -> tuple[Tensor, ...]:
    """Data and conditions, (x,) or (x, y, ...): the arguments of a program.

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
    """A batch as it is handed to a user: x itself where there are no conditions, else the tuple."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def rows_of(parts: Sequence[Tensor], index: Tensor | slice) -> tuple[Tensor, ...]:
    """The rows of each part that an index (n,) or a slice names."""
    return tuple(part[index] for part in parts)


def moved(parts: Sequence[Tensor], device: torch.device | str | None) -> tuple[Tensor, ...]:
    """Each part on a device."""
    return tuple(part.to(device) for part in parts)
