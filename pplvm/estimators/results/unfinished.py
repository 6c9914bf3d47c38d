"""Unfinished comparisons: their figures stand, and their verdicts are withheld."""

import xarray as xr

__all__ = ["UNFINISHED", "without_verdicts"]

UNFINISHED = "unfinished"
"""The verdict on an estimator of whose replicates some were not drawn."""


def without_verdicts(ds: xr.Dataset, planned: int, done: int) -> xr.Dataset:
    """The same result if it is complete, else without verdicts and with the attribute `unfinished`.

    Arguments:
        ds: of a comparison.
        planned, done: replicates of each estimator, on all minibatches together.

    Example:
        >>> ds = xr.Dataset({"verdict": ("estimator", ["biased"])}, {"estimator": ["a"]})
        >>> found = without_verdicts(ds, 320, 41)
        >>> found.verdict.item(), found.attrs["unfinished"]
        ('unfinished', '41 of 320 gradients of each estimator were drawn')
    """
    if done >= planned:
        return ds.assign_attrs(unfinished="")
    verdict = ("estimator", [UNFINISHED] * ds.sizes["estimator"], ds["verdict"].attrs)
    sentence = f"{done} of {planned} gradients of each estimator were drawn"
    return ds.assign(verdict=verdict).assign_attrs(unfinished=sentence)
