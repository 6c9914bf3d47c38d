"""Writes results as netCDF files: all variables in the root for xarray, and again in ArviZ's groups.

ArviZ 0.x opens a file's groups as InferenceData, ArviZ 1.x all of it as a DataTree; both leave the root aside.
"""

from collections.abc import Mapping
from pathlib import Path

import xarray as xr

__all__ = ["draws_of", "one_draw_of", "save"]

LIKELIHOODS = ("log_p", "log_p_exact")


def save(path: Path, data: xr.Dataset, groups: Mapping[str, xr.Dataset], within: str = "") -> None:
    """Write a dataset and its groups; in a file of several datasets, below a group of its own.

    Arguments:
        within: the group, "" for the root. ArviZ 0.x finds what is below it by
            `az.InferenceData.from_netcdf(path, base_group=within)`, 1.x by `az.from_netcdf(path, group=within)`.

    Raises:
        OSError: the disk is full, or fails otherwise.
    """
    for name, part in {"": data, **groups}.items():
        compressed = {key: {"zlib": True} for key in part if part[key].dtype.kind == "f" and part[key].dims}
        group = "/".join(word for word in (within, name) if word) or None
        mode = "a" if path.exists() else "w"
        part.to_netcdf(path, mode=mode, group=group, engine="h5netcdf", encoding=compressed)


def draws_of(comparison: xr.Dataset) -> dict[str, xr.Dataset]:
    """Replicate gradients as draws, minibatches as chains: ArviZ's group `posterior`."""
    return {"posterior": comparison[[key for key in comparison if {"chain", "draw"} <= set(comparison[key].dims)]]}


def one_draw_of(evaluation: xr.Dataset) -> dict[str, xr.Dataset]:
    """Terms of each datum as ArviZ's group `log_likelihood`, with one draw, the learned parameters."""
    drawn = evaluation.expand_dims(chain=[0], draw=[0])
    likelihoods = [key for key in LIKELIHOODS if key in evaluation]
    return {"log_likelihood": drawn[likelihoods], "sample_stats": drawn.drop_vars([*likelihoods])}
