"""The arguments of a loss from a batch, or why the batch has the wrong form and what to do."""

import re
from collections.abc import Sequence

from torch import Tensor

from pplvm.batch import Batch, as_tuple

__all__ = ["arguments_of", "number_refused"]


def arguments_of(batch: Batch) -> tuple[Tensor, ...]:
    """Data and conditions, (x,) or (x, y, ...), the arguments of the loss.

    Raises:
        TypeError: the batch, or a part of it, is no tensor. ValueError: its parts differ in their number of rows.

    Example:
        >>> import torch
        >>> [tuple(part.shape) for part in arguments_of([torch.zeros(3, 8), torch.zeros(3)])]
        [(3, 8), (3,)]
    """
    if isinstance(batch, Tensor):
        return (batch,)
    told = f"a batch is a {type(batch).__name__}, and a step takes a tensor (B, ...), or a tuple (x, y) of such: "
    if not isinstance(batch, tuple | list):
        raise TypeError(f"{told}torch.as_tensor makes one of an array")
    if not all(isinstance(part, Tensor) for part in batch):
        raise TypeError(f"{told}a data set of single data needs torch.utils.data.DataLoader(data, batch_size=100)")
    return as_tuple(batch)


def number_refused(error: TypeError, batch: Batch, count: int) -> str | None:
    """What to do about a loss that takes fewer or more parts than a batch has; None for other errors.

    Arguments:
        error: what the call of the loss on the batch has raised.
        count: the number of parts of the batch.
    """
    said = str(error)
    if many := re.search(r"takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) (?:was|were) given", said):
        most, given = int(many[1]), int(many[2])
        taken = count - (given - most)
        if given - count not in (0, 1) or taken < 1:  # a function, or a method with its self
            return None
        takes, names = ("x alone" if taken == 1 else f"{taken} parts"), _names(taken, count)
        return (
            f"a batch is a {type(batch).__name__}, and of its {count} tensors the loss takes {takes} ({said}): leave "
            f"labels out, as in fit(loss, ({names[0]} for {names[1]} in loader), optimizer), or let the program take "
            "them, as in model(x, y) and guide(x, y)"
        )
    if re.search(r"missing \d+ required positional arguments?", said):
        has = "x alone" if count == 1 else f"{count} tensors"
        return (
            f"a batch is {has}, and the loss takes more ({said}): give batches (x, y), as data.conditioned('labels') "
            "and a DataLoader of TensorDataset(x, y) do, or data (x, y) with batch_size=100"
        )
    return None


def _names(taken: int, count: int) -> Sequence[str]:
    """Variable names for a message on a generator of batches, as x and x, _."""
    kept = ["x", "y", *[f"y{number}" for number in range(2, count)]][:taken]
    left = ", ".join([*kept, *["_"] * (count - taken)])
    return (kept[0] if taken == 1 else f"({', '.join(kept)})"), left
