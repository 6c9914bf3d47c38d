"""One training step of every objective, one table a problem; the gradient's variance is in `extra_info`."""

from collections.abc import Callable, Iterator

import pyro
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contestants import PROBLEMS, Contestant

CASES = [
    pytest.param(build, id=f"{problem}: {name}", marks=pytest.mark.benchmark(group=problem))
    for problem, contestants in PROBLEMS.items()
    for name, build in contestants().items()
]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
    pyro.clear_param_store()


@pytest.mark.parametrize("build", CASES)
def test_step(benchmark: BenchmarkFixture, build: Callable[[], Contestant]) -> None:
    contestant = build()
    torch.manual_seed(0)
    variance = contestant.variance()
    benchmark.pedantic(contestant.step, rounds=30, iterations=1, warmup_rounds=3)
    milliseconds = benchmark.stats.stats.median * 1e3
    benchmark.extra_info["gradient_variance"] = variance
    benchmark.extra_info["variance_x_milliseconds"] = variance * milliseconds
