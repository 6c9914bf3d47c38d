"""Ratios of work (variance x time) between estimators, with simultaneous confidence intervals."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import xarray as xr

__all__ = ["contenders", "is_unfinished", "work_ratio"]

QUANTILE = NormalDist().inv_cdf(0.975)
"""Standard errors to either end of a 95 % interval."""

ENDS = ("", "_low", "_high")
"""Of the names of a figure and of the ends of its interval."""


def is_unfinished(ds: xr.Dataset) -> bool:
    """Whether some of the replicates were not drawn, so that there is no verdict."""
    return bool((ds["verdict"] == "unfinished").any())


def contenders(ds: xr.Dataset, names: Sequence[str]) -> list[str]:
    """The estimators that can win at equal work: not biased, noisy and timed; in their order."""
    ds = ds[["verdict", "work"]].sel(estimator=list(names))
    able = (ds["verdict"] != "biased") & (ds["work"] > 0) & (ds["work"] < math.inf)
    return [str(name) for name in ds["estimator"].values[able.values]]


def work_ratio(ds: xr.Dataset, name: str, other: str, cost: str = "ms", among: int = 2) -> tuple[float, float]:
    """The 95 % interval of one estimator's work over another's; nan where it is not known.

    Arguments:
        cost: "ms", or "evaluations", which are counted and have no noise.
        among: how many contend. All but one of them are held against that one, and their intervals hold together
            (Bonferroni): of 15 that are alike, some would be told apart from the best in 4 of 10 comparisons otherwise.

    Example:
        >>> import xarray as xr
        >>> figures = {"work": [1.0, 2.0], "work_low": [0.9, 1.6], "work_high": [1.1, 2.5]}
        >>> variables = {name: ("estimator", column) for name, column in figures.items()}
        >>> low, high = work_ratio(xr.Dataset(variables, {"estimator": ["a", "b"]}), "b", "a")
        >>> round(low, 2), round(high, 2)
        (1.57, 2.56)
    """
    work = ds["work" if cost == "ms" else "work_evaluations"].sel(estimator=[name, other]).values
    low, high = _ratio_of_pair(ds, name, other, cost)
    if math.isnan(low) or not all(0 < each < math.inf for each in work):
        return low, high
    ratio, wider = float(work[0] / work[1]), NormalDist().inv_cdf(1 - 0.025 / max(among - 1, 1)) / QUANTILE
    return ratio * (low / ratio) ** wider, ratio * (high / ratio) ** wider


def _ratio_of_pair(ds: xr.Dataset, name: str, other: str, cost: str) -> tuple[float, float]:
    """The interval of one pair alone, without correction for others."""
    if cost == "ms" and "work_ratio_low" in ds:
        cell = ds[["work_ratio_low", "work_ratio_high"]].sel(estimator=name, other=other)
        return float(cell["work_ratio_low"]), float(cell["work_ratio_high"])
    noisy = "work" if cost == "ms" else "variance"
    of_both = ds.sel(estimator=[name, other])
    value, low, high = (dict(zip((name, other), of_both[noisy + end].values, strict=True)) for end in ENDS)
    if not all(0 < each[n] < math.inf for each in (value, low, high) for n in (name, other)):
        return math.nan, math.nan
    down, up = ({n: math.log(a[n] / b[n]) for n in (name, other)} for a, b in ((value, low), (high, value)))
    work = of_both["work" if cost == "ms" else "work_evaluations"].values
    ratio = float(work[0] / work[1])
    return ratio * math.exp(-math.hypot(down[name], up[other])), ratio * math.exp(math.hypot(up[name], down[other]))
