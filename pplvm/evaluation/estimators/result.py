"""A finished comparison: a dataset that prints, and that notebooks show, as its ranked table."""

import xarray as xr

from pplvm.plots.display import comparison_html, comparison_text, or_plain

__all__ = ["ComparisonResult"]


class ComparisonResult(xr.Dataset):
    """An `xarray.Dataset` in all but its display; a part of it that is no comparison looks as any dataset does."""

    __slots__ = ()

    @classmethod
    def of(cls, ds: xr.Dataset) -> "ComparisonResult":
        """The same variables, coordinates and attributes.

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
        return or_plain(lambda: comparison_html(self, dataset()), self.__repr__)
