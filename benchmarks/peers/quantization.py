"""Vector quantization, 65,536 vectors of 64 numbers to 512 codes, forward and backward, and the memory it takes.

python -m benchmarks.peers.quantization [--rounds 11] [--threads 2] [--device cpu] [--json FILE]

Each contestant quantizes straight through, adds a commitment of .25 and moves its codes by a moving average.
"""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.contestants import images, seeded
from benchmarks.handwritten import vq_vae_elbo
from benchmarks.peers.agreement import Verdict
from benchmarks.peers.likelihood import resident
from benchmarks.peers.problems import Problem
from benchmarks.peers.steps import by_hands, judge_of, tiers
from benchmarks.peers.tables import Section, Target, run
from pplvm.distributions.nearest_code import NearestCode
from pplvm.networks.codebook import MovingAverageCodebook
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.penalized import Penalized
from pplvm.programs.vq_vae import VQVAE, vq_vae

__all__ = ["CONTESTANTS", "Quantization", "judge_of_quantization", "memory", "section", "sections"]

SONNET, OURS, LUCIDRAINS = "as Sonnet, by hand", "ours", "vector-quantize-pytorch"
DECAY, COMMITMENT = 0.99, 0.25
HAND = "hand-written, compiled"


@dataclass(frozen=True)
class Quantization:
    """One forward and backward pass, which gives the gradient by z (N, D), and the codes (K, D) after it."""

    step: Callable[[], Tensor]
    codes: Callable[[], Tensor]


def data(N: int, D: int, K: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (N, D), the slope (N, D) that a decoder gives the quantized ones, and codes (K, D)."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(n, D, generator=generator) for n in (N, N, K)]
    return drawn[0].to(device), drawn[1].to(device), drawn[2].to(device)


def ours(z: Tensor, slope: Tensor, codes: Tensor) -> Quantization:
    codebook = MovingAverageCodebook(*codes.shape, decay=DECAY).to(z.device)
    codebook.place(codes)

    def step() -> Tensor:
        leaf = z.detach().requires_grad_()
        nearest = NearestCode(leaf, codebook.codes, validate_args=False)
        codebook.observe(leaf, nearest.index)
        quantized = nearest.vectors
        commitment = COMMITMENT * (leaf - quantized.detach()).square().sum(-1).mean()
        ((quantized * slope).sum() / len(leaf) + commitment).backward()
        codebook.after_step(lambda rows: rows)
        return _gradient(leaf)

    return Quantization(step, lambda: codebook.codes)


def sonnet(z: Tensor, slope: Tensor, codes: Tensor) -> Quantization:
    """All distances, a matrix of one-hots, and products of it for counts, sums and vectors."""
    N, (K, _) = len(z), codes.shape
    held = {"codes": codes.clone(), "counts": codes.new_full((K,), N / K), "sums": codes * N / K}

    def step() -> Tensor:
        leaf, e = z.detach().requires_grad_(), held["codes"]
        distances = leaf.square().sum(1, keepdim=True) - 2 * leaf @ e.T + e.square().sum(1)
        chosen = one_hot(distances.argmin(1), K).to(leaf)
        quantized = chosen @ e
        with torch.no_grad():
            held["counts"] = DECAY * held["counts"] + (1 - DECAY) * chosen.sum(0)
            held["sums"] = DECAY * held["sums"] + (1 - DECAY) * chosen.T @ leaf
            held["codes"] = held["sums"] / held["counts"][:, None]
        commitment = COMMITMENT * (leaf - quantized.detach()).square().sum(-1).mean()
        through = leaf + (quantized - leaf).detach()
        ((through * slope).sum() / N + commitment).backward()
        return _gradient(leaf)

    return Quantization(step, lambda: held["codes"])


def lucidrains(z: Tensor, slope: Tensor, codes: Tensor) -> Quantization:
    """With Laplace smoothing off, and the straight-through rule in place of its default, rotation."""
    N, (K, D) = len(z), codes.shape
    module = importlib.import_module("vector_quantize_pytorch").VectorQuantize(
        dim=D, codebook_size=K, decay=DECAY, commitment_weight=COMMITMENT, rotation_trick=False, eps=0.0
    )
    book = module.to(z.device)._codebook
    with torch.no_grad():
        for name, value in (
            ("embed", codes),
            ("embed_avg", codes * N / K),
            ("cluster_size", codes.new_full((K,), N / K)),
        ):
            getattr(book, name).copy_(value[None])

    def step() -> Tensor:
        leaf = z.detach().requires_grad_()
        quantized, _, commitment = module(leaf[None])
        ((quantized[0] * slope).sum() / N + D * commitment.sum()).backward()  # which is a mean over D too
        return _gradient(leaf)

    return Quantization(step, lambda: book.embed[0])


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


CONTESTANTS: dict[str, Callable[[Tensor, Tensor, Tensor], Quantization]] = {
    SONNET: sonnet,
    LUCIDRAINS: lucidrains,
    OURS: ours,
}


def judge_of_quantization(sizes: tuple[int, int, int], device: str) -> Callable[[str, Any], Verdict]:
    """The one by hand is trusted: gradient and moved codes of the first step."""

    @cache
    def trusted() -> tuple[Tensor, Tensor]:
        built = sonnet(*data(*sizes, device))
        return built.step(), built.codes()

    def judge(name: str, contestant: Quantization) -> Verdict:
        for what, found, right in zip(
            ("gradient", "codes"), (contestant.step(), contestant.codes()), trusted(), strict=True
        ):
            apart = float((found - right).norm() / right.norm())
            if not apart < 1e-2:  # a few of 65,536 nearest codes turn on rounding
                return Verdict(False, f"its {what} is {100 * apart:.2g} % off")
        return Verdict(True, "equal")

    return judge


def sections(device: str) -> Iterator[Section]:
    yield section((65536, 64, 512), device, [Target(OURS, 0.20, SONNET), Target(OURS, 0.12, LUCIDRAINS)])
    for B, title in ((128, "VQ-VAE 784-400-4x4x16, K = 128, B = 128"), (20, "VQ-VAE 784-400-4x4x16, K = 128, B = 20")):
        yield whole_step(title, Problem(partial(seeded, program), images(B), 1).to(device))


def section(sizes: tuple[int, int, int], device: str, targets: list[Target] | None = None) -> Section:
    N, D, K = sizes
    contestants = {name: partial(_built, make, sizes, device) for name, make in CONTESTANTS.items()}
    judge = judge_of_quantization(sizes, device)
    return Section(f"N = {N:,}, D = {D}, K = {K}", contestants, judge, targets or [], inner=1)


def _built(
    make: Callable[[Tensor, Tensor, Tensor], Quantization], sizes: tuple[int, int, int], device: str
) -> Quantization:
    return make(*data(*sizes, device))


def program() -> VQVAE:
    return vq_vae(784, grid=(4, 4), num_codes=128, code_size=16, hidden_sizes=(400,))


def objective() -> Penalized:
    return Penalized(BiasedPathwise(), {"commitment": COMMITMENT, "codebook": 1.0})


def whole_step(title: str, problem: Problem) -> Section:
    """A training step of the program, its codes learned by gradient, against the same by hand."""
    contestants = {**by_hands(vq_vae_elbo, problem), **tiers(objective, problem)}
    del contestants["hand-written, compiled with its noise"]  # there is none
    judge = judge_of(vq_vae_elbo, objective, problem)
    return Section(title, contestants, judge, [Target("ours, inductor", 1.0, HAND)], counted="hand-written, eager")


def memory(device: str) -> dict[str, str]:
    """Peak growth of a step in a fresh process each."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        grown = {name: pool.submit(growth, name, device).result() / 2**20 for name in CONTESTANTS}
    told = {f"peak memory, {name}": f"{size:.0f} MiB" for name, size in grown.items()}
    over = ", ".join(f"{grown[OURS] / grown[name]:.2f} of {name}" for name in (SONNET, LUCIDRAINS))
    return told | {"peak memory of ours, asked .25": over}


def growth(name: str, device: str) -> int:
    """Bytes by which the resident set, or the GPU's allocated memory, grows at its peak in a first large step."""
    torch.set_num_threads(1)
    small = CONTESTANTS[name](*data(2048, 64, 512, device))
    small.step()  # what is imported or made once
    built = CONTESTANTS[name](*data(65536, 64, 512, device))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        built.step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    before = resident("VmRSS")
    built.step()
    return resident("VmHWM") - before


if __name__ == "__main__":
    run("quantization", sections, rounds=11, notes=memory)
