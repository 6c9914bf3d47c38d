"""What a log-likelihood is of, and so what figures are called: data alone, given conditions, or with observed labels.

    log p(x)                       a program of x alone, or one that observes labels of data whose labels are not known
    log p(x | y)                   conditions are given
    log p(x, y)                    the model observes the condition, and knows it of every datum
    log p(x, y where known)        it knows it of some: log p(x, y) of these, log p(x) of the others

Only the first two are of the data, and may be told in bits per dimension.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplvm.batch import Batch, as_tuple, rows_of
from pplvm.particles.conditions import observed_conditions, rows_that_observe
from pplvm.particles.pair import Pair

__all__ = ["Judged", "judged_of", "observing"]

AT_ONCE = 100
"""Data of which is asked at once whether their conditions are observed."""


@dataclass(frozen=True)
class Judged:
    """The names of what stands beside x in a density.

    Example:
        >>> Judged().log_p, Judged(given=("labels",)).log_p, Judged(observed=("labels",)).log_p
        ('log p(x)', 'log p(x | labels)', 'log p(x, labels)')
    """

    given: tuple[str, ...] = ()  # conditions that the model only reads
    observed: tuple[str, ...] = ()  # conditions that it observes, of some data at least
    every: bool = True  # whether it observes them of every datum
    unknown: tuple[str, ...] = ()  # conditions that it would observe, but of no datum knows

    @property
    def log_p(self) -> str:
        """What the density of a datum is called."""
        return f"log p({self.of})"

    @property
    def of(self) -> str:
        """What it is a density of."""
        seen = ", ".join(self.observed) + ("" if self.every or not self.observed else " where known")
        return ", ".join(filter(None, ["x", seen])) + (f" | {', '.join(self.given)}" if self.given else "")

    @property
    def datum(self) -> str:
        """All that the guide is given of a datum."""
        return ", ".join(["x", *self.given, *self.observed, *self.unknown])

    @property
    def givens(self) -> str:
        """What densities are given, to stand behind their last variable."""
        return f" | {', '.join(self.given)}" if self.given else ""

    @property
    def bounded(self) -> str:
        """What an elbo bounds, in words; "" where that is log p(x), as everybody takes it to be."""
        return "" if self == Judged() else f"bounds {self.log_p}"

    @property
    def why_no_bits(self) -> str:
        """What keeps figures from bits per dimension of the data, "" where nothing does."""
        if not self.observed:
            return ""
        return f"this is {self.log_p}, of data and labels, and no density of the data alone"


def judged_of(pair: Pair, batch: Batch, names: Sequence[str] = ()) -> Judged:
    """What a program says of data and their conditions.

    Arguments:
        pair: as `frozen` yields it.
        batch: all data that are judged (N, ...), with their conditions.
        names: of the conditions; what the model itself calls them where there are none, or only "condition 1".
    """
    parts = as_tuple(batch)
    if len(parts) == 1:
        return Judged()
    named = dict(enumerate(_own_names(pair, len(parts) - 1), start=1))
    named |= {number: name for number, name in enumerate(names, start=1) if name != f"condition {number}"}
    sites = observed_conditions(pair, rows_of(parts, slice(1)), {})
    observes = frozenset[int]().union(*sites.values())
    given = tuple(name for number, name in named.items() if number not in observes)
    observed = tuple(name for number, name in named.items() if number in observes)
    if not observed:
        return Judged(given)
    known = observing(pair, parts)
    return Judged(given, observed, bool(known.all())) if known.any() else Judged(given, unknown=observed)


def observing(pair: Pair, batch: Batch) -> Tensor:
    """The data of which the model observes a condition, (N,) of bools: their density is log p(x, y), not log p(x)."""
    parts = as_tuple(batch)
    starts = range(0, len(parts[0]), AT_ONCE)
    return torch.cat([rows_that_observe(pair, rows_of(parts, slice(start, start + AT_ONCE)), {}) for start in starts])


def _own_names(pair: Pair, count: int) -> list[str]:
    """What the model calls its arguments behind x; y, y2, ... where it has no names for them."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, each in inspect.signature(pair.model).parameters.items() if each.kind in kinds][1:]
    return [*names, *("y" if number == 1 else f"y{number}" for number in range(len(names) + 1, count + 1))][:count]
