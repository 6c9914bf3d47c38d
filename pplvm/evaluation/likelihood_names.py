"""Names of a likelihood and its figures: log p(x), log p(x | y) of conditions, log p(x, y) of observed labels.

    log p(x)                       a program of x alone, or one that observes labels of data whose labels are not known
    log p(x | y)                   conditions are given
    log p(x, y)                    the model observes the condition, and knows it of every datum
    log p(x, y where known)        it knows it of some: log p(x, y) of these, log p(x) of the others
    log p(x where seen | mask)     a mask hides values of the data, which are left out of the density

Only the first two are of the data, and may be told in bits per dimension.
"""

import inspect
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.particles.conditions import hides_data, observed_conditions, rows_that_observe
from pplvm.particles.contract import ProgramError
from pplvm.particles.pair import Pair

__all__ = ["LikelihoodNames", "likelihood_names", "observing"]

NOT_KNOWN = -1
"""A label that is not known, as `pplvm.data` writes it."""

AT_ONCE = 100
"""Data of which is asked at once whether their conditions are observed."""


@dataclass(frozen=True)
class LikelihoodNames:
    """The names of the variables beside x in a likelihood.

    Example:
        >>> names = LikelihoodNames
        >>> names().log_p, names(given=("labels",)).log_p, names(observed=("labels",)).log_p
        ('log p(x)', 'log p(x | labels)', 'log p(x, labels)')
    """

    given: tuple[str, ...] = ()  # conditions that the model only reads
    observed: tuple[str, ...] = ()  # conditions that it observes, of some data at least
    every: bool = True  # whether it observes them of every datum
    hides: bool = False  # whether a mask hides values of the data

    @property
    def log_p(self) -> str:
        """The name of a datum's log-density."""
        return f"log p({self.of})"

    @property
    def of(self) -> str:
        """The variables that it is a density of."""
        x = "x where seen" if self.hides else "x"
        return ", ".join(filter(None, [x, self._seen])) + (f" | {', '.join(self.given)}" if self.given else "")

    @property
    def datum(self) -> str:
        """Everything that the guide is told of a datum; labels that are not known tell it nothing."""
        return ", ".join(["x", *self.given, *self.observed])

    @property
    def kept(self) -> str:
        """The conditions that data drawn from the model keep, those that it reads and those that it observes."""
        kept = ", ".join(filter(None, [*self.given, self._seen]))
        return f" | {kept}" if kept else ""

    @property
    def _seen(self) -> str:
        return ", ".join(self.observed) + ("" if self.every or not self.observed else " where known")

    @property
    def bounded(self) -> str:
        """What the elbo is a bound on, in words; "" where that is log p(x)."""
        return "" if self == LikelihoodNames() else f"bounds {self.log_p}"

    @property
    def why_no_bits(self) -> str:
        """Why figures are not bits per dimension of the data; "" where they are."""
        if self.hides:
            return f"this is {self.log_p}, of the values that a mask shows, and no density of all of them"
        if not self.observed:
            return ""
        return f"this is {self.log_p}, of data and labels, and no density of the data alone"


def likelihood_names(pair: Pair, batch: Batch, names: Sequence[str] = ()) -> LikelihoodNames:
    """The names of a program's likelihood on data with conditions.

    Arguments:
        pair: as `evaluation_mode` yields it.
        batch: all data that are evaluated (N, ...), with their conditions.
        names: of the conditions; what the model itself calls them where there are none, or only "condition 1".

    Raises:
        ProgramError: the model observes a condition of one datum at a site that another datum does not have.
    """
    parts = as_tuple(batch)
    if len(parts) == 1:
        return LikelihoodNames()
    named = dict(enumerate(_own_names(pair, len(parts) - 1), start=1))
    named |= {number: name for number, name in enumerate(names, start=1) if name != f"condition {number}"}
    first = batch_rows(parts, slice(1))
    sites = observed_conditions(pair, first, {})
    _require_same_sites(pair, parts, sites.keys())
    hides = hides_data(pair, first, {}) is not None and any(hides_data(pair, each, {}) for each in _pieces(parts))
    observes = frozenset[int]().union(*sites.values())
    given = tuple(name for number, name in named.items() if number not in observes)
    observed = tuple(name for number, name in named.items() if number in observes)
    if not observed:
        return LikelihoodNames(given, hides=hides)
    known = observing(pair, parts)
    if not known.any():
        return LikelihoodNames(given, hides=hides)
    return LikelihoodNames(given, observed, bool(known.all()), hides=hides)


def observing(pair: Pair, batch: Batch) -> Tensor:
    """A mask (N,) of the data of which the model observes a condition, whose density is log p(x, y)."""
    parts = as_tuple(batch)
    return torch.cat([rows_that_observe(pair, each, {}) for each in _pieces(parts)])


def _pieces(parts: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """The data and their conditions, `AT_ONCE` at a time."""
    for start in range(0, len(parts[0]), AT_ONCE):
        yield batch_rows(parts, slice(start, start + AT_ONCE))


def _require_same_sites(pair: Pair, parts: tuple[Tensor, ...], first: Set[str]) -> None:
    """Refuse a model that observes conditions at a site which depends on whether they are known.

    Arguments:
        first: sites of conditions, as the first datum has them.
    """
    unknown = torch.stack([(part == NOT_KNOWN).reshape(len(part), -1).any(1) for part in parts[1:]], 1)  # (N, parts)
    for row in (unknown != unknown[0]).any(1).nonzero().flatten()[:1].tolist():
        other = observed_conditions(pair, batch_rows(parts, slice(row, row + 1)), {}).keys()
        for name in first ^ other:
            there, not_there = (0, row) if name in first else (row, 0)
            raise ProgramError(
                f"the model observes site {name!r} of datum {there} and not of datum {not_there}: let all data have "
                "the same sites, and hide what is not known by obs_mask=known or pyro.poutine.mask(mask=known)"
            )


def _own_names(pair: Pair, count: int) -> list[str]:
    """The model's argument names behind x; y, y2, ... where it has none."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, each in inspect.signature(pair.model).parameters.items() if each.kind in kinds][1:]
    return [*names, *("y" if number == 1 else f"y{number}" for number in range(len(names) + 1, count + 1))][:count]
