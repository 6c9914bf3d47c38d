"""A training step of the VAE 784-H-50-H-784, softplus, Bernoulli, one particle, Adam at 1e-3.

python -m benchmarks.peers.vae_step [--rounds 21] [--threads 2] [--device cpu] [--json FILE]
"""

from collections.abc import Iterator, Sequence
from functools import partial

from pyro.infer import JitTrace_ELBO, Trace_ELBO

from benchmarks.contestants import images, seeded, svi
from benchmarks.handwritten import vae_elbo
from benchmarks.peers.problems import Problem
from benchmarks.peers.steps import by_hands, judge_of, numpyro, pyros, tiers
from benchmarks.peers.tables import Section, Target, run
from pplvm.bounds import elbo
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE

__all__ = ["section", "sections"]

PYRO, HAND, NUMPYRO = "Pyro SVI", "hand-written, compiled", "NumPyro jit"
SIZES = {  # (B, H): ours compiled over Pyro's and over NumPyro's, ours eager over Pyro's
    (128, 400): (0.55, 1.15, 0.85),
    (128, 200): (0.45, 1.15, None),
    (20, 400): (0.38, 1.7, None),
    (20, 200): (0.32, 1.7, 0.70),
}


def sections(device: str) -> Iterator[Section]:
    for (B, H), (over_pyro, over_numpyro, eager) in SIZES.items():
        problem = Problem(partial(seeded, partial(VAE, 784, 50, (H,))), images(B), 1).to(device)
        held_to = (over_pyro, PYRO), (1.0, HAND), (over_numpyro, NUMPYRO)
        targets = [
            *[Target("ours, inductor", *held) for held in held_to],
            *([] if eager is None else [Target("ours, eager", eager, PYRO)]),
            Target("ours, CUDA graph", 1.05, "hand-written, CUDA graph"),
            *([Target("ours, CUDA graph", 1 / 8, PYRO)] if (B, H) == (20, 200) else []),
        ]
        yield section(f"VAE 784-{H}-50, B = {B}", problem, targets)


def section(title: str, problem: Problem, targets: Sequence[Target] = ()) -> Section:
    jit = partial(JitTrace_ELBO, ignore_jit_warnings=True)
    contestants = {
        **pyros(Trace_ELBO, problem, PYRO),
        "Pyro SVI JitTrace_ELBO": lambda: svi(jit(), problem.build(), problem.x, validate=False),
        **by_hands(vae_elbo, problem),
        NUMPYRO: lambda: numpyro("Trace_ELBO", problem),
        **tiers(partial(Pathwise, elbo), problem),
    }
    judge = judge_of(vae_elbo, partial(Pathwise, elbo), problem)
    return Section(title, contestants, judge, targets, counted="hand-written, eager")


if __name__ == "__main__":
    run("vae_step", sections)
