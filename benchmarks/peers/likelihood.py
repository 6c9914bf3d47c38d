"""Log p(x) of 100 images by 5,000 particles of the IWAE 784-200-200-50, and the memory it takes.

python -m benchmarks.peers.likelihood [--rounds 5] [--threads 2] [--device cpu] [--json FILE]
"""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import RenyiELBO
from torch import Tensor

from benchmarks.contestants import images, seeded
from benchmarks.handwritten import draw, vae_log_weights
from benchmarks.peers.agreement import Verdict, worst_distance
from benchmarks.peers.problems import Problem
from benchmarks.peers.tables import Section, Target, run
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.particle_terms import ParticleTerms
from pplvm.evaluation.per_datum import each_datum, evaluation_mode
from pplvm.graphs.compiled import Tier
from pplvm.programs.vae import VAE

__all__ = ["section", "sections"]

PYRO = "Pyro RenyiELBO.loss, image by image"
TIERS: dict[str, Tier] = {"eager": "off", "graph": "graph", "inductor": "inductor"}
CHUNK = 10
"""Particles of all images at a time, where a contestant has the choice: 1,000 rows stay in the cache."""


@dataclass(frozen=True)
class Pass:
    step: Callable[[], Any]  # log p(x) of every image, (N,)


def sections(device: str) -> Iterator[Section]:
    yield section(
        "IWAE 784-200-200-50, 5,000 particles", problem_of(100, 5000, device), [Target("ours, inductor", 0.5, PYRO)]
    )


def problem_of(size: int, K: int, device: str) -> Problem:
    return Problem(partial(seeded, partial(VAE, 784, 50, (200, 200), activation="tanh")), images(size), K).to(device)


def section(title: str, problem: Problem, targets: Sequence[Target] = ()) -> Section:
    compiled = partial(torch.compile, fullgraph=True, dynamic=False)
    of = lambda run, **how: Pass(partial(run, problem.build(), problem.x, problem.particles, **how))
    contestants = {
        PYRO: lambda: of(by_renyi),
        "Pyro traces, in chunks": lambda: of(by_traces),
        "hand-written, eager": lambda: of(by_hand, chunk=chunk_by_hand),
        "hand-written, compiled": lambda: of(by_hand, chunk=compiled(chunk_by_hand)),
        "jax jit": lambda: Pass(importlib.import_module("benchmarks.peers.with_jax").likelihood(problem, CHUNK)),
        **{f"ours, {name}": partial(by_tier, problem, tier) for name, tier in TIERS.items()},
        "ours, importance_sampled": lambda: of(by_ours),
    }
    return Section(
        title,
        contestants,
        judge_of(problem),
        targets,
        inner=1,
        units=len(problem.x),
        unit="image",
        counted="hand-written, eager",
    )


def judge_of(problem: Problem) -> Callable[[str, Any], Verdict]:
    """Estimates of the same images from independent draws must be apart by chance alone."""

    @cache
    def trusted() -> Tensor:
        program = problem.build()
        torch.manual_seed(1)
        return by_hand(program, problem.x, problem.particles, chunk_by_hand).cpu().double()  # (N,)

    def judge(name: str, contestant: Any) -> Verdict:
        expected = trusted()
        torch.manual_seed(2)
        apart = torch.tensor(contestant.step().tolist(), dtype=torch.float64) - expected
        distance, limit, _ = worst_distance(apart.unsqueeze(1), torch.zeros(len(apart), 1, dtype=torch.float64))
        if not distance < limit:
            return Verdict(False, f"log p(x) is {apart.mean():.3f} nats off, {distance:.1f} standard errors")
        return Verdict(True, f"to {limit * apart.std() / len(apart) ** 0.5:.1g} nats")

    return judge


@torch.no_grad()
def by_renyi(program: VAE, x: Tensor, K: int) -> Tensor:
    objective = RenyiELBO(0, K, vectorize_particles=True, max_plate_nesting=1)
    return torch.tensor([-objective.loss(program.model, program.guide, row) for row in x.split(1)])


@torch.no_grad()
def by_traces(program: VAE, x: Tensor, K: int) -> Tensor:
    """Both halves under a plate of particles, their log-probabilities summed: what a user of Pyro writes."""
    running = torch.full((len(x),), -torch.inf, device=x.device)
    for _ in range(K // CHUNK):
        with pyro.plate("particles", CHUNK, dim=-2):
            guide = poutine.trace(program.guide).get_trace(x)
            model = poutine.trace(poutine.replay(program.model, trace=guide)).get_trace(x)
        running = torch.logaddexp(running, (log_prob(model) - log_prob(guide)).logsumexp(0))
    return running - math.log(K)


def log_prob(trace: poutine.Trace) -> Tensor:
    trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob"] for name in [*trace.stochastic_nodes, *trace.observation_nodes])


@torch.no_grad()
def by_hand(vae: VAE, x: Tensor, K: int, chunk: Callable[..., Tensor]) -> Tensor:
    """The encoder run once, a running sum of the weights."""
    loc, log_scale = vae.encoder(x).chunk(2, dim=-1)
    running = torch.full((len(x),), -torch.inf, device=x.device)
    for _ in range(K // CHUNK):
        running = chunk(vae, loc, log_scale, x, draw(vae, x, CHUNK)[0], running)
    return running - math.log(K)


def chunk_by_hand(vae: VAE, loc: Tensor, log_scale: Tensor, x: Tensor, noise: Tensor, running: Tensor) -> Tensor:
    return torch.logaddexp(running, vae_log_weights(vae, loc, log_scale, x, noise).logsumexp(0))


def by_tier(problem: Problem, tier: Tier) -> Pass:
    """The evaluator's loop; the graph is made by the first pass, as that of whatever else is compiled."""
    program, x, K = problem.build(), problem.x, problem.particles
    with evaluation_mode(program, x) as pair:
        terms = ParticleTerms(pair, x, K, lambda drawn: {"log w": drawn.log_weights[:, 0]}, tier)

    def step() -> Tensor:
        with evaluation_mode(program, x):
            return torch.stack([terms(row)["log w"].logsumexp(0) for row in each_datum(x, 0)]) - math.log(K)

    return Pass(step)


def by_ours(program: VAE, x: Tensor, K: int) -> Tensor:
    """With all that it tells beside log p(x), the effective sample size and k-hat; the graph is made anew."""
    return importance_sampled(program, x, ks=(K,)).log_p[:, -1]


def memory(device: str) -> dict[str, str]:
    """Peak growth in a fresh process, ten images: ours should not depend on the number of particles."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return {
            f"peak memory of {name}, {K} particles": f"{pool.submit(growth, run, K, device).result() / 2**20:.0f} MiB"
            for name, run in (("ours", by_ours), (PYRO, by_renyi))
            for K in (500, 5000)
        }


def growth(run: Callable[[VAE, Tensor, int], Tensor], K: int, device: str) -> int:
    """Bytes by which the resident set, or the GPU's allocated memory, grows at its peak."""
    problem = problem_of(10, K, device)
    program = problem.build()
    run(program, problem.x[:1], 100)  # what is imported or made once
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(program, problem.x, K)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    before = resident("VmRSS")
    run(program, problem.x, K)
    return resident("VmHWM") - before


def resident(which: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    run("likelihood", sections, rounds=5, notes=memory)
