"""How comparisons print, and how notebooks show them: the ranked table, finished or not."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import torch
import xarray as xr

from pplvm.distributed.ranks import size
from pplvm.plots.notebook_html import comparison_html, comparison_text, html_or_text

__all__ = ["ComparisonRepr", "ComparisonResult"]


class ComparisonResult(xr.Dataset):
    """An `xarray.Dataset` that prints as a ranked table; selections without it print as any dataset."""

    __slots__ = ()

    @classmethod
    def of(cls, ds: xr.Dataset) -> "ComparisonResult":
        """A comparison result with the same variables, coordinates and attributes.

        Arguments:
            ds: the dataset of a comparison.
        """
        return cls(ds.data_vars, ds.coords, ds.attrs)

    def __repr__(self) -> str:
        try:
            return comparison_text(self)
        except Exception:  # what was selected or computed of a comparison need not be one
            return super().__repr__()

    def _repr_html_(self) -> str:
        dataset = super()._repr_html_
        if "verdict" not in self or "estimator" not in self.dims:
            return dataset()
        return html_or_text(lambda: comparison_html(self, dataset()), self.__repr__)


class ComparisonRepr:
    """The display of a running comparison: its progress, and in a notebook the results so far."""

    losses: Mapping[str, Any]
    batches: Sequence[Sequence[torch.Tensor]]
    replicates: int
    measurements: Mapping[str, Sequence[Any]]  # with a stream each, one a minibatch

    @property
    def has_result(self) -> bool:
        raise NotImplementedError

    def result(self) -> ComparisonResult:
        raise NotImplementedError

    def __repr__(self) -> str:
        drawn = min((sum(m.stream.count for m in found) for found in self.measurements.values()), default=0)
        return (
            f"Comparison of {len(self.losses)} estimators on {len(self.batches)} minibatches of "
            f"{len(self.batches[0][0])}: {drawn} of {len(self.batches) * self.replicates} gradients drawn of each; "
            "rounds() draws on, result() is what is known"
        )

    def _repr_html_(self) -> str:
        told = f"<div>{escape(repr(self))}</div>"
        if size() > 1 or not self.has_result:  # what all ranks know is asked of all of them together
            return told
        with torch.random.fork_rng(devices=[]):
            return html_or_text(lambda: told + self.result()._repr_html_(), self.__repr__)
