"""The waist: log-weights (K, B) of a batch, beside Pyro's own vectorized traces of the same program."""

from collections.abc import Callable, Iterator

import pytest
import torch
from pyro.infer import Trace_ELBO
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from benchmarks.contestants import images, seeded
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE

BATCH = 20
PROGRAMS: dict[str, Callable[[], nn.Module]] = {
    "VAE 784-400-50": lambda: VAE(784, 50, (400,)),
    "SBN 784-200": lambda: SigmoidBeliefNet(784, (200,)),
    "SBN 784-200-200-200": lambda: SigmoidBeliefNet(784, (200, 200, 200)),
}


def by_gather(program: nn.Module, x: Tensor, K: int) -> Callable[[], object]:
    pair = pair_up(program.model, program.guide, (x,), {})
    return lambda: draw_from_pair(pair, K, (x,), {}).log_weights


def by_draw_particles(program: nn.Module, x: Tensor, K: int) -> Callable[[], object]:
    """The same with the check of the program at every call."""
    return lambda: draw_particles(program.model, program.guide, x, num_particles=K).log_weights


def by_pyro(program: nn.Module, x: Tensor, K: int) -> Callable[[], object]:
    objective = Trace_ELBO(num_particles=K, vectorize_particles=True, max_plate_nesting=1)

    def log_weight() -> Tensor:
        ((model_trace, guide_trace),) = objective._get_traces(program.model, program.guide, (x,), {})
        return model_trace.log_prob_sum() - guide_trace.log_prob_sum()

    return log_weight


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("way", [by_gather, by_draw_particles, by_pyro])
@pytest.mark.parametrize(
    ("name", "K"),
    [
        pytest.param(name, K, marks=pytest.mark.benchmark(group=f"{name}, B={BATCH}, K={K}"))
        for name in PROGRAMS
        for K in (1, 10, 100)
    ],
)
def test_log_weights(
    benchmark: BenchmarkFixture,
    way: Callable[[nn.Module, Tensor, int], Callable[[], object]],
    name: str,
    K: int,
) -> None:
    run = way(seeded(PROGRAMS[name]), images(BATCH), K)
    benchmark.pedantic(run, rounds=30, iterations=3, warmup_rounds=3)
