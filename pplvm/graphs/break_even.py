"""Whether compilation breaks even: time saved by the runs to come against the cost of the compiler."""

from dataclasses import dataclass

__all__ = ["BreakEven"]

WORTH, SAVED, LOOKED = 50.0, 0.3, 20
"""Seconds to be saved before Inductor is asked, twice what it takes at most; the share of a replayed run that it saves
(benchmarks/README.md); and the runs by which a run's time is known."""


@dataclass
class BreakEven:
    """The number of runs of a graph and the seconds they took."""

    runs: int = 0
    seconds: float = 0.0
    is_decided: bool = False

    def took(self, seconds: float) -> None:
        self.runs, self.seconds = self.runs + 1, self.seconds + seconds

    def pays(self, planned: int | None) -> bool:
        """Whether the runs to come save more than the compiler costs; decided once if their number is known.

        Arguments:
            planned: runs in all; if None, as many to come as there were.
        """
        if self.runs < LOOKED or self.is_decided:
            return False
        self.is_decided = planned is not None
        to_come = self.runs if planned is None else planned - self.runs
        return self.seconds / self.runs * to_come * SAVED > WORTH
