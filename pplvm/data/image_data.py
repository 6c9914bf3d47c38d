"""A data set held in memory, stored as found and yielded as float32."""

__all__ = ["ImageData"]

import copy
import math

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pplvm.data.shown import Shown
from pplvm.data.spec import DataSpec
from pplvm.data.streams import uniforms


class ImageData(Shown, Dataset[Tensor]):
    """Images with their specification; `data[i]` is one of them, float32, and nothing else.

    Arguments:
        images: (N, ...) uint8 or float32, as stored.
        name: what messages call the data set.
        levels: the number of grey levels, 2 for binary data, None for real values.
        labels: (N,) integers, if known; never part of a batch.
        top: the stored value that means 1; levels - 1 for uint8 and 1 for float32, unless given.
        binarization: as in `DataSpec`; "given" for binary and "none" for other data, unless given.
        seed: of the draws, if the binarization is dynamic.
    Raises ValueError for no data.

    Example:
        >>> data = ImageData(torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8), "toy", levels=5)
        >>> data[0]
        tensor([0.0000, 0.7500])
    """

    remarks: tuple[str, ...] = ()
    """What a user should know of how the data were read, a sentence each."""

    def __init__(
        self,
        images: Tensor,
        name: str,
        levels: int | None,
        labels: Tensor | None = None,
        top: int | None = None,
        binarization: str | None = None,
        seed: int = 0,
    ) -> None:
        if images.numel() == 0:
            raise ValueError(f"data set {name!r} is empty: give it at least one datum of at least one value")
        self.images = images
        self.labels = labels
        highest = 1 if levels is None or images.is_floating_point() else levels - 1
        self.top = highest if top is None else top
        self.seed = seed
        how = binarization if binarization is not None else "given" if levels == 2 else "none"
        self.spec = DataSpec(name, len(images), tuple(images.shape[1:]), levels=levels, binarization=how)

    @classmethod
    def of(cls, data: "ImageData | Tensor") -> "ImageData":
        """A data set as it is; of a tensor (N, *shape), its rows as real values, float32 like those of all data sets.

        Raises:
            TypeError: it is neither, or a tensor without rows.
        """
        if isinstance(data, Tensor) and data.dim():
            return cls(data, "a tensor", levels=None)
        if not isinstance(data, cls):
            what = "a tensor of no dimension" if isinstance(data, Tensor) else type(data).__name__
            raise TypeError(f"data must be a data set of pplvm.data or a tensor (N, *shape), not {what}")
        return data

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.rows(torch.tensor([range(len(self))[i]]))[0]

    def rows(self, index: Tensor, epoch: int = 0) -> Tensor:
        """The data of `index` (n,) as the specification promises them, (n, *shape) float32.

        Dynamically binarized data are drawn anew in every epoch; a datum's draw depends on nothing else
        than (seed, epoch, index).
        """
        x = self.images[index.to(self.images.device)].to(self.spec.dtype) / self.top  # (n, *shape)
        if self.spec.binarization != "dynamic":
            return x
        draws = uniforms(self.seed, epoch, index, math.prod(self.spec.shape))  # (n, D)
        return (draws.reshape(x.shape).to(x.device) < x).to(x.dtype)

    def to(self, device: torch.device | str) -> "ImageData":
        """The same data held on a device, so that no batch has to be carried there."""
        found = copy.copy(self)
        found.images = self.images.to(device)
        return found

    def mean(self) -> Tensor:
        """The mean datum, flattened, (prod(shape),) float32; of dynamic draws, their expectation."""
        total = self.images.sum(0, dtype=torch.float64)  # (*shape)
        return (total / (len(self) * self.top)).flatten().to(self.spec.dtype)
