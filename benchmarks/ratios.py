"""The targets that time is held to, as ratios of two contestants run in turn in one process.

Milliseconds drift with whatever else the machine does; the ratio of two neighbours in time hardly does. Each
round times every contestant once, in random order; the figure is the median over rounds of the round's ratio.

    python -m benchmarks.ratios [rounds]
"""

import gc
import random
import sys
import time
from collections.abc import Callable

import pyro
import torch

from benchmarks.contestants import PROBLEMS

__all__ = ["TARGETS", "interleaved", "ratio"]

GRAPH = "pyro SVI TraceGraph_ELBO, neural baseline"
TARGETS = (
    ("VAE 784-400-50, B=128, K=1", "Pathwise(elbo)", "pyro SVI Trace_ELBO", 0.85),
    ("SBN 784-200, B=20, K=10", "LeaveOneOut(elbo)", GRAPH, 0.40),
    ("SBN 784-200-200, B=20, K=50", "LeaveOneOut(elbo)", GRAPH, 0.60),
)
FLOOR = "hand-written torch"


def main(rounds: int = 21) -> None:
    """Print each target beside the measured ratio and that of the hand-written step."""
    torch.set_num_threads(2)
    for problem, ours, yardstick, target in TARGETS:
        steps = {name: PROBLEMS[problem]()[name]().step for name in (ours, yardstick, FLOOR)}
        seconds = interleaved(steps, rounds)
        print(f"\n{problem}: step over that of {yardstick} (median [quartiles], {rounds} rounds)")
        for name, told in ((ours, f"target {target:.2f}"), (FLOOR, "")):
            low, median, high = ratio(seconds[name], seconds[yardstick])
            print(f"  {name:20}{median:5.2f} [{low:.2f}, {high:.2f}]   {told}".rstrip(), flush=True)
        pyro.clear_param_store()


def interleaved(
    steps: dict[str, Callable[[], object]], rounds: int, inner: int = 20, wait: Callable[[object], object] = id
) -> dict[str, list[float]]:
    """Seconds of `inner` steps of each contestant in each round, their order drawn anew every round.

    A step may return before its work is done: `wait` takes what the last returned and waits for it.
    """
    order, seconds = list(steps), {name: [] for name in steps}
    for round_number in range(-1, rounds):  # the first warms up
        random.Random(round_number).shuffle(order)
        for name in order:
            gc.collect()  # not in the time of another what one left behind
            start = time.perf_counter()
            for _ in range(inner):
                last = steps[name]()
            wait(last)
            if round_number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(ours: list[float], yardstick: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile over rounds."""
    each = torch.tensor([a / b for a, b in zip(ours, yardstick, strict=True)], dtype=torch.float64)
    low, median, high = each.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return low, median, high


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
