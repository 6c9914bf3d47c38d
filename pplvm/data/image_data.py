"""The data set class: images stored as found, in memory or in a file, and yielded as float32."""

__all__ = ["ImageData"]

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pplvm.batch import Batch, as_tuple, without_conditions
from pplvm.data.channels import with_channel
from pplvm.data.conditions import as_condition, as_labels, condition_in_words, number_of_classes, with_known_labels
from pplvm.data.counter_rng import uniforms
from pplvm.data.description import binarization_in_words, is_rgb, values_in_words
from pplvm.data.lazy_rows import LazyRows, chunk_slices
from pplvm.data.notebook_repr import NotebookRepr
from pplvm.data.spec import DataSpec


class ImageData(NotebookRepr, Dataset[Tensor | Any]):
    """Images with a specification of their values; `data[i]` is one image, float32, or (x, y) with its conditions.

    Arguments:
        images: (N, ...) uint8 or float32, as stored.
        name: what messages call the data set.
        levels: the number of grey levels, 2 for binary data, None for real values.
        labels: (N,) integers, if known, -1 where they are not; part of a batch only by `conditioned("labels")`.
        top: the stored value that means 1; levels - 1 for uint8 and 1 for float32, unless given.
        binarization: as in `DataSpec`; "given" for binary and "none" for other data, unless given.
        seed: of the draws, if the binarization is dynamic.
        threshold: above which a value is 1, if the binarization is static.
    Raises ValueError for no data.

    Example:
        >>> data = ImageData(torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8), "toy", levels=5)
        >>> data[0]
        tensor([0.0000, 0.7500])
        >>> data
        <toy: 2 of shape (2,), grey, 5 levels, stored as 0 to 4, found 0 to 3; binarization: none>
    """

    remarks: tuple[str, ...] = ()
    """What a user should know of how the data were read, a sentence each."""

    conditions: tuple[Tensor, ...] = ()
    """What batches hold beside x, each (N, ...), in the order of `spec.conditions`, their names."""

    arrays: Mapping[str, Callable[[], Tensor]] = {}
    """What else was found with one row a datum, by name, read as it is asked for: `conditioned` may name it."""

    factor_names: tuple[str, ...] = ()
    """The names of the columns of `arrays["factors"]`, (N, F), the levels of known factors of variation."""

    no_labels: str = ""
    """Why what might be meant for labels is none, a sentence."""

    def __init__(
        self,
        images: Tensor | LazyRows,
        name: str,
        levels: int | None,
        labels: Tensor | None = None,
        top: int | None = None,
        binarization: str | None = None,
        seed: int = 0,
        threshold: float = 0.5,
    ) -> None:
        if 0 in images.shape:
            raise ValueError(f"data set {name!r} is empty: give it at least one datum of at least one value")
        self.stored = images
        self.labels = labels
        highest = 1 if levels is None or self.is_floating_point else levels - 1
        self.top = highest if top is None else top
        self.seed, self.threshold = seed, threshold
        how = binarization if binarization is not None else "given" if levels == 2 else "none"
        shape, classes = tuple(images.shape[1:]), number_of_classes(labels)
        self.spec = DataSpec(name, len(images), shape, levels=levels, binarization=how, num_classes=classes)
        self._extremes = images.extremes if isinstance(images, LazyRows) else None
        self._as_fractions = self.is_floating_point or (isinstance(images, LazyRows) and images.factor != 1)
        self._mean: Tensor | None = None

    @classmethod
    def of(cls, data: "ImageData | Batch") -> "ImageData":
        """Return a data set as it is; make one of a tensor (N, *shape) of real values, float32.

        Of a tuple (x, y, ...) of tensors, all but the first are conditions.

        Raises:
            TypeError: it is none of these, or a tensor without rows.
            ValueError: the tensors of a tuple differ in their number of rows.
        """
        if isinstance(data, tuple | list) and data and all(isinstance(part, Tensor) for part in data):
            x, *conditions = as_tuple(data)
            return cls.of(x).conditioned(*conditions)
        if isinstance(data, Tensor) and data.dim():
            return cls(data, "a tensor", levels=None)
        if not isinstance(data, cls):
            what = "a tensor of no dimension" if isinstance(data, Tensor) else type(data).__name__
            raise TypeError(f"data must be a data set of pplvm.data or a tensor (N, *shape), not {what}")
        return data

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, i: int) -> Tensor | Any:
        parts = self.batch(torch.tensor([range(len(self))[i]]))
        return without_conditions([part[0] for part in parts])

    def __repr__(self) -> str:
        try:
            return f"<{self.description()}>"
        except Exception:  # of one that is half made, as a debugger may show it
            return object.__repr__(self)

    def description(self, split: str | None = None) -> str:
        """One line: number of data, shape, levels, range (of all splits, where known) and binarization.

        Arguments:
            split: that they are of, to stand after the name.
        """
        spec, how = self.spec, self.spec.binarization
        floats, levels = self.is_floating_point, spec.levels
        if how in ("static", "dynamic"):
            levels = None if floats else self.top + 1  # before it
        values = values_in_words(levels, self.extremes, self.top, self._as_fractions, not floats, is_rgb(spec.shape))
        share = float(self.mean().mean()) if spec.levels == 2 else None
        name = spec.name if split is None else f"{spec.name}, {split}"
        shape = f"{len(self):,} of shape {spec.shape}"
        told = f"{name}: {shape}, {values}; {binarization_in_words(how, self.threshold, share)}"
        return f"{told}; given {self.given()}" if self.conditions else told

    def given(self) -> str:
        """Describe the conditions, as "labels of 10 classes, 1,197 of 1,297 not known"; empty without any."""
        named = zip(self.spec.conditions, self.conditions, strict=True)
        return ", ".join(condition_in_words(name, values, self.spec.num_classes) for name, values in named)

    @property
    def images(self) -> Tensor:
        """All data as they are stored, (N, ...), before any binarization; read into memory if they lie in a file."""
        return self.stored.to("cpu") if isinstance(self.stored, LazyRows) else self.stored

    @property
    def is_floating_point(self) -> bool:
        """Whether stored values are floats, and not integers."""
        stored = self.stored
        return stored.is_floating_point if isinstance(stored, LazyRows) else stored.is_floating_point()

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest stored value, of all splits where known."""
        if self._extremes is None:
            low, high = self.images.aminmax()
            self._extremes = low.item(), high.item()
        return self._extremes

    def rows(self, index: Tensor, epoch: int = 0) -> Tensor:
        """The data of `index` (n,) as float32 within their specification, (n, *shape).

        Dynamically binarized data are drawn anew in every epoch; a datum's draw depends on nothing else
        than (seed, epoch, index).
        """
        stored = self.stored
        found = stored.take(index) if isinstance(stored, LazyRows) else stored[index.to(stored.device)]  # (n, *shape)
        if self.spec.binarization == "static":
            return self._thresholded(found).to(self.spec.dtype)
        x = found.to(self.spec.dtype) / self.top
        if self.spec.binarization != "dynamic":
            return x
        draws = uniforms(self.seed, epoch, index, math.prod(self.spec.shape))  # (n, D)
        return (draws.reshape(x.shape).to(x.device) < x).to(x.dtype)

    def batch(self, index: Tensor, epoch: int = 0) -> tuple[Tensor, ...]:
        """The data of `index` (n,) and their conditions, (x,) or (x, y, ...), on one device.

        Arguments:
            index, epoch: as of `rows`.
        """
        x = self.rows(index, epoch)
        return x, *(part[index.to(part.device)].to(x.device) for part in self.conditions)

    def conditioned(self, *conditions: str | Tensor) -> "ImageData":
        """The same data with conditions, so that batches are (x, y, ...): labels, other arrays, or tensors.

        Arguments:
            conditions: "labels", (N,) int64 and -1 where a datum's class is not known; names of `arrays`, or tensors
                (N, ...): booleans stay, integers become int64 and floats float32. None leaves x alone.
        Raises ValueError for data without labels, a name that is not there, and other numbers of rows.

        Example:
            >>> labels = torch.tensor([1, 0])
            >>> data = ImageData(torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8), "toy", 5, labels)
            >>> data.conditioned("labels")[0]
            (tensor([0.0000, 0.7500]), tensor(1))
        """
        found = copy.copy(self)
        words = [each if isinstance(each, str) else f"condition {i + 1}" for i, each in enumerate(conditions)]
        found.conditions = tuple(self._condition(each, word) for each, word in zip(conditions, words, strict=True))
        found.spec = replace(self.spec, conditions=tuple(words))
        return found

    def _condition(self, condition: str | Tensor, word: str) -> Tensor:
        name, count = self.spec.name, len(self)
        if isinstance(condition, Tensor):
            return as_condition(condition, count, word, name)
        if not isinstance(condition, str):
            raise TypeError(f"{word} is a {type(condition).__name__}: give a name, as 'labels', or a tensor (N, ...)")
        if condition == "labels":
            return as_labels(self.labels, count, name, self.no_labels)
        if condition not in self.arrays:
            there = [*([] if self.labels is None else ["labels"]), *self.arrays]
            raise ValueError(
                f"data set {name!r} has no {condition!r} of one row a datum to condition on: "
                + (f"it has {', '.join(there)}" if there else "it has nothing beside its data")
            )
        return as_condition(self.arrays[condition](), count, condition, name)

    def with_known_labels(self, count: int, seed: int = 0) -> "ImageData":
        """The same data with `count` known labels, balanced over classes; the others become -1.

        Raises ValueError for data without labels, more than there are, and fewer than classes.
        """
        found = copy.copy(self)
        found.labels = with_known_labels(as_labels(self.labels, len(self), self.spec.name, self.no_labels), count, seed)
        conditions = zip(self.spec.conditions, self.conditions, strict=True)
        found.conditions = tuple(found.labels.to(y.device) if word == "labels" else y for word, y in conditions)
        return found

    def knowing(self, other: "ImageData") -> "ImageData":
        """These data with the classes, arrays and conditions of another data set of the same rows."""
        found = copy.copy(self)
        found.conditions, found.arrays, found.no_labels = other.conditions, other.arrays, other.no_labels
        found.factor_names = other.factor_names
        found.spec = replace(self.spec, num_classes=other.spec.num_classes, conditions=other.spec.conditions)
        return found

    def with_channel(self) -> "ImageData":
        """The same images as (C, H, W): grey ones stored as (H, W) get a channel.

        Raises ValueError for data that are no images.
        """
        found = copy.copy(self)
        found.stored, found._mean = with_channel(self.stored, self.spec.name), None
        found.spec = replace(self.spec, shape=tuple(found.stored.shape[1:]))
        return found

    def parts(self) -> Iterator[Tensor]:
        """Iterate over all data in order, in chunks (n, *shape): as stored, or uint8 0 and 1 if static."""
        for part in chunk_slices((len(self), *self.spec.shape)):
            found = self.stored.take(part) if isinstance(self.stored, LazyRows) else self.stored[part]
            yield self._thresholded(found) if self.spec.binarization == "static" else found

    def _thresholded(self, found: Tensor) -> Tensor:
        """0 and 1 as uint8, of which torch makes floats in a sixth of the time that it takes for booleans."""
        bound = self.threshold * self.top
        if found.is_floating_point() or found.device.type != "cpu":
            return (found > bound).view(torch.uint8)
        ones = found.numpy() > math.floor(bound)  # bytes with a whole number: a twentieth of torch's time
        return torch.from_numpy(ones).view(torch.uint8)

    def to(self, device: torch.device | str) -> "ImageData":
        """Hold the data on a device, so that no batch has to be copied there; on the CPU they stay in their file."""
        found = copy.copy(self)  # with what is known of them
        if not isinstance(self.stored, LazyRows) or torch.device(device).type != "cpu":
            found.stored = self.stored.to(device)
        found.conditions = tuple(part.to(device) for part in self.conditions)
        return found

    def mean(self) -> Tensor:
        """The mean datum, flattened, (prod(shape),) float32; of dynamically binarized data, their expectation."""
        if self._mean is None:
            total = sum(map(_sum, self.parts()))  # (*shape)
            top = 1 if self.spec.binarization == "static" else self.top
            self._mean = (total / (len(self) * top)).flatten().to(self.spec.dtype)
        return self._mean.clone()


def _sum(part: Tensor) -> Tensor:
    """Over data (n, *shape), in float64; on the CPU by numpy, as so few values do not pay for torch's threads."""
    if part.device.type != "cpu" or part.dtype == torch.bfloat16:  # which numpy does not know
        return part.sum(0, dtype=torch.float64)
    return torch.from_numpy(np.asarray(part.numpy(force=True).sum(0, dtype="f8")))
