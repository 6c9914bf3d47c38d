"""An endless iterator of minibatches, epoch after epoch, that can be resumed from any position."""

__all__ = ["Epochs"]

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pplvm.batch import Batch, to_device, without_conditions
from pplvm.data.counter_rng import permutation
from pplvm.data.image_data import ImageData


class Epochs(Iterator[Tensor | Any]):
    """Full minibatches without end, x or (x, y, ...); the order depends on (seed, epoch, position) alone.

    Data with conditions give tuples (x, y, ...). A rest of an epoch that fills no batch is left out, another one each
    epoch.

    Arguments:
        data: to draw from, a data set, a tensor (N, *shape) or a tuple (x, y, ...) of such; if dynamically binarized,
            drawn anew in every epoch.
        size: B.
        seed: of the order.
        device: where the batches go.
        part: (which, of how many): the rows of each batch that this process takes.
    Raises ValueError for a size below 1, above the number of data, or that the parts do not divide.

    Example:
        >>> data = ImageData(torch.arange(5.0)[:, None], "toy", levels=None)
        >>> stream = Epochs(data, 2)
        >>> _ = [next(stream) for _ in range(3)]
        >>> stream.epoch, stream.position
        (1, 1)
    """

    def __init__(
        self,
        data: ImageData | Batch,
        size: int,
        *,
        seed: int = 0,
        device: torch.device | str | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        data = ImageData.of(data)
        if not 1 <= size <= len(data):
            raise ValueError(
                f"the batch size is {size}, but data set {data.spec.name!r} has {len(data)} data: use 1 to {len(data)}"
            )
        if size % part[1]:
            raise ValueError(f"the batch size {size} is not divisible by {part[1]} processes: use a multiple of them")
        self.data, self.size, self.seed, self.device, self.part = data, size, seed, device, part
        self.epoch, self.position = 0, 0
        self._order = permutation(len(data), seed)

    @property
    def length(self) -> int:
        """Batches in an epoch."""
        return len(self.data) // self.size

    @property
    def last_rows(self) -> Tensor:
        """The row numbers, in the data set, of the last batch, (B,)."""
        start = (self.position - 1) * self.size
        which, parts = self.part
        return self._order[start : start + self.size][which::parts]

    def __next__(self) -> Tensor | Any:
        if self.position == self.length:
            self.epoch, self.position = self.epoch + 1, 0
            self._order = permutation(len(self.data), self.seed, self.epoch)
        self.position += 1
        return without_conditions(to_device(self.data.batch(self.last_rows, self.epoch), self.device))

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        if min(self.epoch, self.position) < 0:
            raise ValueError(f"epoch and position must be at least 0, got {self.epoch} and {self.position}")
        self._order = permutation(len(self.data), self.seed, self.epoch)
