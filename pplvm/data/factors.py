"""Known factors of data: an array of levels, one row a datum, beside the data."""

__all__ = ["Factors", "factors_of"]

from dataclasses import dataclass

from torch import Tensor

from pplvm.data.image_data import ImageData

FACTORS = "factors"
"""The array's name, unless given."""


@dataclass(frozen=True)
class Factors:
    """The levels of the factors that vary over some data.

    Arguments:
        levels: (N, F) int64.
        names: of the F factors.
        constant: names of those that do not vary, which are left out.

    Example:
        >>> import torch
        >>> Factors(torch.tensor([[0, 2], [1, 0]]), ("shape", "x")).sizes
        (2, 2)
    """

    levels: Tensor
    names: tuple[str, ...]
    constant: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of levels that occur, of each factor."""
        return tuple(len(column.unique()) for column in self.levels.T)

    def __str__(self) -> str:
        told = ", ".join(f"{name} ({size})" for name, size in zip(self.names, self.sizes, strict=True))
        return told + (f"; {', '.join(self.constant)} left out, as they do not vary" if self.constant else "")


def factors_of(data: ImageData, name: str = FACTORS, count: int | None = None, every: int = 1) -> Factors:
    """The known factors of a data set, from the array of that name beside its data.

    Arguments:
        data: a data set such as `pplvm.sprites()`, or of an `.npz` that holds integers (N, F) under this name.
        name: of the array.
        count: of the first data whose factors are wanted; all unless given.
        every: only each such datum, of which `count` are the first.

    Raises:
        ValueError: there is no such array, it is no table of whole numbers, or fewer than two of its columns vary.

    Example:
        >>> from pplvm.data.sprites import sprites
        >>> print(factors_of(sprites("test", side=16, count=1000)))
        shape (3), scale (6), rotation (8), x (16), y (16)
    """
    of = f"data set {data.spec.name!r}"
    if name not in data.arrays:
        there = ", ".join(data.arrays)
        raise ValueError(
            f"{of} has no array {name!r} of known factors, whole numbers with as many rows as data: "
            + (f"it has {there}; name the one" if there else "use sprites, or save one, (N, F), beside your own data")
        )
    values = data.arrays[name]()[::every][:count]
    if values.dim() != 2:
        raise ValueError(f"{name} of {of} has shape {tuple(values.shape)}: give a row a datum and a column a factor")
    if values.is_floating_point() and not bool((values.isfinite() & (values == values.round())).all()):
        raise ValueError(f"{name} of {of} holds numbers that are not whole: number the levels of each factor from 0")
    levels = values.long()
    known = data.factor_names if name == FACTORS else ()
    names = known or tuple(f"factor {number + 1}" for number in range(levels.shape[1]))
    varies = (levels != levels[:1]).any(0)  # (F,)
    if int(varies.sum()) < 2:
        raise ValueError(f"{name} of {of} has {int(varies.sum())} columns that vary in these data: scores need two")
    kept, constant = (
        tuple(n for n, v in zip(names, varies.tolist(), strict=True) if v is which) for which in (True, False)
    )
    return Factors(levels[:, varies], kept, constant)
