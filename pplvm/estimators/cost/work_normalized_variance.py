"""Work-normalized variance, variance times time, with the noise of both, and its ratios between estimators."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pplvm.estimators.cost.timing import Clock, Load, clock_of

__all__ = ["work_of"]


def work_of(
    names: Sequence[str],
    variance: np.ndarray,
    error: np.ndarray,
    times: tuple[np.ndarray, np.ndarray],
    averages: Sequence[float] = (),
) -> xr.Dataset:
    """Milliseconds and work of E estimators with 95 % intervals, and intervals of all ratios of work.

    On a busy machine an interval holds what the wall clock says and what CPU time says: a step on a quiet machine takes
    its CPU time, but which share of the wall clock's excess an estimator owes to the load is not known.

    Arguments:
        variance, error: of the gradient, and an error of its logarithm of which 1.96 to either side hold 95 %, (E,).
        times: milliseconds by the wall clock and of CPU time, each (E, rounds); nan where a step was not timed.
        averages: the system's load averages during the run.
    """
    wall, cpu = times
    load = Load.of(wall, cpu, averages)
    clocks = [clock for each in (wall, cpu) if (clock := clock_of(each, list(variance > 0))) is not None]
    if not clocks:
        raise ValueError("no estimator was timed: every one needs at least one gradient that is drawn by itself")
    used = clocks if load.is_busy else clocks[:1]
    low, high = _ends(used)
    ms, log_variance = np.exp(clocks[0].log), np.log(np.where(variance > 0, variance, np.nan))
    log_work, apart = log_variance + clocks[0].log, np.stack([log_variance + each for each in (low, high)])
    half = 1.96 * np.where(variance > 0, error, 0.0)
    # Both noises are independent: their half widths add up in squares.
    work_low, work_high = (
        log_work - np.hypot(log_work - apart[0], half),
        log_work + np.hypot(apart[1] - log_work, half),
    )
    ratio_low, ratio_high = _ratios(used, log_variance, error)
    each = {
        "ms": ms, "ms_low": np.exp(low), "ms_high": np.exp(high),
        "ms_cpu": np.exp(clocks[1].log) if len(clocks) > 1 else np.full(len(ms), np.nan),
        "work": variance * ms,
        "work_low": np.where(variance > 0, np.exp(work_low), 0.0),
        "work_high": np.where(variance > 0, np.exp(work_high), 0.0),
    }  # fmt: skip
    between = {"work_ratio_low": np.exp(ratio_low), "work_ratio_high": np.exp(ratio_high)}
    variables = {key: ("estimator", values) for key, values in each.items()}
    variables |= {key: (("estimator", "other"), values) for key, values in between.items()}
    found = xr.Dataset(variables, {"estimator": list(names), "other": list(names)})
    told = {"cpu_share": load.share, "load_average": load.average, "cores": load.cores, "timing_spread": load.spread}
    return found.assign_attrs(told, busy=int(load.is_busy))


def _ends(clocks: Sequence[Clock]) -> tuple[np.ndarray, np.ndarray]:
    """The interval that covers those of all clocks, as logarithms, (E,)."""
    lows, highs = zip(*[clock.interval() for clock in clocks], strict=True)
    return np.min(lows, 0), np.max(highs, 0)


def _ratios(clocks: Sequence[Clock], log_variance: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of work of the row's estimator over the column's, (E, E)."""
    lows, highs = [], []
    of_variance = log_variance[:, None] - log_variance
    noise = 1.96**2 * (np.square(error)[:, None] + np.square(error))  # independent, which errs on the safe side
    for clock in clocks:
        ratio, variance = clock.ratios()
        half = np.sqrt(noise + clock.quantile**2 * variance)
        lows.append(of_variance + ratio - half)
        highs.append(of_variance + ratio + half)
    return np.min(lows, 0), np.max(highs, 0)
