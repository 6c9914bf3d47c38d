"""The time of one gradient, its interval, and whether the machine was busy meanwhile.

Estimators are timed in turn, round by round, so that a load slows all of them. The logarithms of their medians over ten
contiguous blocks of rounds give one covariance matrix C, which holds the drift of the load within the run:

    log t_a - log t_b  has variance  C_aa + C_bb - 2 C_ab + BETWEEN_RUNS^2
"""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Clock", "Load", "clock_of", "load_average", "now"]

BLOCKS = 10
"""Contiguous blocks of rounds: few, so that rounds under one load are in one block; enough to tell their spread."""

BETWEEN_RUNS = 0.03
"""Standard deviation of the log of a ratio of two times from process to process on one machine, beyond what a run sees:
where memory lies, how fast the cores are clocked. Of rloo over REINFORCE and DisARM over rloo, each in 8 processes on 2
busy cores, the logs of the ratios of CPU time scattered by 0.013 and 0.011; this is twice that and a margin.
"""

WAITED, SPREAD = 0.9, 2.0
"""A machine is busy if a step had less than so much of a core, or if the longest tenth of the times of one step were so
many times as long as the shortest: 1.15 on a quiet one."""

OVERBOOKED, STEADY = 1.25, 1.3
"""Or if so many programs wanted each core, unless times spread no more than this: the load average tells of the past
minute, and of cores that were not in the way."""


def now(x: Tensor) -> tuple[float, float]:
    """Seconds of wall-clock and of this process's CPU time, after a device synchronization; CPU time nan on a GPU."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter(), math.nan if x.is_cuda else time.process_time()


@dataclass(frozen=True)
class Clock:
    """Times of E estimators by one clock (wall or CPU)."""

    log: np.ndarray  # (E,), of the median in milliseconds
    covariance: np.ndarray  # (E, E), of these
    quantile: float  # standard errors to either end of a 95 % interval

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Both ends of the interval, as logarithms, (E,)."""
        half = self.quantile * np.sqrt(self.covariance.diagonal() + BETWEEN_RUNS**2 / 2)
        return self.log - half, self.log + half

    def ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios of times and their variances, (E, E); entry [a, b] is of a over b."""
        own = self.covariance.diagonal()
        variance = np.maximum(own[:, None] + own - 2 * self.covariance, 0.0) + BETWEEN_RUNS**2
        return self.log[:, None] - self.log, variance


def clock_of(times: np.ndarray, has_noise: Sequence[bool]) -> Clock | None:
    """Medians over rounds in which all estimators were timed, hence under the same load.

    Arguments:
        times: milliseconds (E, rounds), nan where a step was not timed by itself.
        has_noise: of each estimator; one without is drawn a few times only, and no round waits for it.

    Returns:
        None if an estimator was never timed.
    """
    from scipy import stats

    seen = np.isfinite(times) & (times > 0)
    if not seen.any(1).all():
        return None
    rivals = np.array(has_noise) if any(has_noise) else np.ones(len(times), bool)
    common = seen[rivals].all(0)
    rounds = np.flatnonzero(common if common.sum() > 1 else seen.any(0))
    logs = np.log(np.where(seen, times, np.nan))
    middle = [np.nanmedian(row[rounds] if known[rounds].any() else row) for row, known in zip(logs, seen, strict=True)]
    parts = np.array_split(rounds, max(min(BLOCKS, len(rounds)), 1))
    medians = np.array([[_median(row[part], m) for part in parts] for row, m in zip(logs, middle, strict=True)])
    if len(parts) < 2:
        return Clock(np.array(middle), np.full((len(times),) * 2, np.inf), 2.0)
    covariance = np.atleast_2d(np.cov(medians)) / len(parts)
    return Clock(np.array(middle), covariance, float(stats.t.ppf(0.975, len(parts) - 1)))


def _median(values: np.ndarray, otherwise: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else otherwise


@dataclass(frozen=True)
class Load:
    """The load of the machine while gradients were timed."""

    share: float  # CPU seconds per second of the timed steps, nan of a GPU
    average: float  # programs that were running or waiting, the mean over the run; nan where that is not known
    cores: int
    spread: float  # of one step's times, the longest tenth over the shortest, at the median estimator

    @classmethod
    def of(cls, wall: np.ndarray, cpu: np.ndarray, averages: Sequence[float]) -> "Load":
        """The load from milliseconds (E, rounds) by both clocks, and from load averages during the run."""
        both = np.isfinite(wall) & np.isfinite(cpu)
        share = float(cpu[both].sum() / wall[both].sum()) if both.any() else math.nan
        rows = [row[np.isfinite(row)] for row in wall]
        spreads = [np.quantile(row, 0.9) / np.quantile(row, 0.1) for row in rows if len(row) >= 10]
        average = float(np.mean(averages)) if len(averages) else math.nan
        return cls(share, average, os.cpu_count() or 1, float(np.median(spreads)) if spreads else math.nan)

    @property
    def is_busy(self) -> bool:
        is_overbooked = self.average > OVERBOOKED * self.cores and not self.spread < STEADY
        return bool(self.share < WAITED or self.spread > SPREAD or is_overbooked)


def load_average() -> list[float]:
    """The system's load average over the last minute; nothing where there is none."""
    try:
        return [os.getloadavg()[0]]
    except (AttributeError, OSError):
        return []
