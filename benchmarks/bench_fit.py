"""The loop's overhead: `fit` beside the same steps written bare, in turns, at about a millisecond a step (CPU time).

    python -m benchmarks.bench_fit [ROUNDS]

The target is at most 1.05. What `fit` adds is the norm of the gradient, one look whether it is finite, and the
record of the step.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pplvm.training.fit import fit

STEPS = 100
BATCH, DATA, HIDDEN = 50, 784, 100


class Squares(nn.Module):
    """An autoencoder's squared error, which knows nothing of Pyro."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DATA, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, DATA))

    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x) - x).square().sum() / len(x)


def bare(loss: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()


def ours(loss: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    for _ in fit(loss, (x for _ in range(STEPS)), optimizer):
        pass


def seconds(run: Callable[..., None], x: Tensor) -> float:
    loss = Squares()
    optimizer = torch.optim.Adam(loss.parameters(), fused=True)
    start = time.process_time()
    run(loss, x, optimizer)
    return (time.process_time() - start) / STEPS


def overhead(rounds: int) -> tuple[float, float, float, float]:
    """The bare step in seconds, and the ratio's quartiles over rounds in random order."""
    x = torch.rand(BATCH, DATA)
    for run in (bare, ours):
        seconds(run, x)
    times: dict[Callable[..., None], list[float]] = {bare: [], ours: []}
    for _ in range(rounds):
        for run in random.sample([bare, ours], 2):
            times[run].append(seconds(run, x))
    ratios = [b / a for a, b in zip(times[bare], times[ours], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return statistics.median(times[bare]), low, middle, high


def test_the_loop_adds_little(benchmark):
    x = torch.rand(BATCH, DATA)
    benchmark.pedantic(seconds, args=(ours, x), rounds=3, warmup_rounds=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    step, low, middle, high = overhead(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    print(f"bare step {1e3 * step:.2f} ms; fit takes {middle:.3f} of it [{low:.3f}, {high:.3f}]")
