"""Effective sample size of each estimator's replicates, by ArviZ: far too few if their noise repeats."""

import warnings

import numpy as np
import xarray as xr

__all__ = ["effective_replicates"]


def effective_replicates(ds: xr.Dataset) -> xr.DataArray:
    """The effective sample size of each estimator's gradient norms, (estimator,).

    Far fewer than were drawn: their noise repeats, and variances, intervals and verdicts are not to be believed.
    Minibatches, which differ in their mean, are standardized each by itself. Nan where nothing varies or fewer
    than four draws a minibatch were kept.

    Arguments:
        ds: what `compare_gradients` returned.
    """
    norm = ds["grad_norm"]
    gap = norm - norm.mean("draw")
    spread = gap.std("draw")
    varies = (spread > 1e-6 * abs(norm.mean("draw"))).all("chain")
    nothing = xr.DataArray(np.full(norm.sizes["estimator"], np.nan), {"estimator": ds["estimator"]}, ["estimator"])
    if norm.sizes["draw"] < 4 or not varies.any():
        return nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the version to come
        import arviz
    standard = (gap / spread).sel(estimator=varies).transpose("chain", "draw", "estimator")
    found = arviz.ess(xr.Dataset({"ess": standard}))["ess"]
    return found.reindex_like(nothing)
