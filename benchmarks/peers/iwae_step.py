"""A training step of the IWAE 784-200-200-50, tanh, K = 50, batch 20, Adam at 1e-3.

python -m benchmarks.peers.iwae_step [--rounds 21] [--threads 2] [--device cpu] [--json FILE]
"""

from collections.abc import Iterator, Sequence
from functools import partial

from pyro.infer import RenyiELBO

from benchmarks.contestants import images, seeded
from benchmarks.handwritten import vae_iwae
from benchmarks.peers.problems import Problem
from benchmarks.peers.steps import by_hands, judge_of, numpyro, pyros, tiers
from benchmarks.peers.tables import Section, Target, run
from pplvm.bounds import iwae
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE

__all__ = ["section", "sections"]

PYRO = "Pyro SVI RenyiELBO"


def sections(device: str) -> Iterator[Section]:
    build = partial(VAE, 784, 50, (200, 200), activation="tanh")
    problem = Problem(partial(seeded, build), images(20), 50).to(device)
    targets = [
        Target("ours, inductor", 0.65, PYRO),
        Target("ours, inductor", 1.0, "hand-written, compiled"),
        Target("ours, CUDA graph", 1.05, "hand-written, CUDA graph"),
    ]
    yield section("IWAE 784-200-200-50, K = 50, B = 20", problem, targets)


def section(title: str, problem: Problem, targets: Sequence[Target] = ()) -> Section:
    renyi = partial(RenyiELBO, alpha=0, num_particles=problem.particles, vectorize_particles=True)
    objective = partial(Pathwise, iwae, problem.particles)
    contestants = {
        **pyros(partial(renyi, max_plate_nesting=1), problem, PYRO),
        **by_hands(vae_iwae, problem),
        "NumPyro jit": lambda: numpyro("RenyiELBO", problem),
        **tiers(objective, problem),
    }
    return Section(title, contestants, judge_of(vae_iwae, objective, problem), targets, counted="hand-written, eager")


if __name__ == "__main__":
    run("iwae_step", sections)
