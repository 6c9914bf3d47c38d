"""The beta-VAE on sprites whose factors are known: rate, distortion and disentanglement by beta, over seeds.

A VAE of 10 Gaussian latents and two tanh layers of 200 learns 16 x 16 sprites (3 shapes, 4 scales, 4 rotations, 8
places along x and along y; 3,072 images, rendered here) under the elbo with its KL times beta, in closed form; batches
of 100, Adam at 2e-3. Its posterior means of the test split are scored against the factors: MIG is 1 where each factor
has a latent to itself. The scores depend on the seed as much as on beta, so that no single run says anything.

    python examples/disentanglement.py
    python examples/disentanglement.py --betas 0.25 0.5 1 2 4 8 --seeds 5 --steps 5000

Expected (1,000 steps, 49 s of one core), test split, nats, mean +- standard deviation over 3 seeds:

    beta              rate        distortion               MIG      active units
     0.5      8.78 +- 0.20      9.28 +- 0.11      0.06 +- 0.02      4.67 +- 0.58
       2      4.98 +- 0.18     13.30 +- 0.21      0.04 +- 0.04      3.67 +- 0.58
       8      1.61 +- 0.05     28.24 +- 0.70      0.10 +- 0.09      2.00 +- 0.00

So few steps disentangle nothing: the seeds of beta 8 differ in MIG by as much as its mean.
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import mean, stdev

import torch
from torch.optim import Adam

from pplvm.data.epochs import Epochs
from pplvm.data.factors import factors_of
from pplvm.data.image_data import ImageData
from pplvm.data.sprites import sprites
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.disentanglement.mutual_information import mutual_information_gap
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.tempered import Beta
from pplvm.programs.vae import VAE
from pplvm.training.fit import fit

BATCH, RATE, HIDDEN, LATENT = 100, 2e-3, (200, 200), 10
SMALL = {"side": 16, "sizes": (4, 4, 8, 8)}

Scores = dict[str, list[float]]
"""By name, a value a seed."""


def main(
    betas: Sequence[float] = (0.5, 2.0, 8.0),
    seeds: int = 3,
    steps: int = 1000,
    picture: str = "runs/disentanglement.png",
    tested: int | None = None,
) -> dict[float, Scores]:
    """Rate, distortion, MIG and active units of the test split, or of its first data, of each beta and seed."""
    train, test = (sprites(split, **SMALL) for split in ("train", "test"))
    found: dict[float, Scores] = {}
    print(f"{test.spec.name}, factors {factors_of(test)}; {seeds} seeds, mean +- standard deviation\n")
    for beta in betas:
        each = [scores(trained(train, beta, seed, steps), test, tested) for seed in range(seeds)]
        found[beta] = {name: [one[name] for one in each] for name in each[0]}
        if beta == betas[0]:
            print(f"{'beta':>6}" + "".join(f"{name:>18}" for name in found[beta]))
        print(f"{beta:6g}" + "".join(f"{over_seeds(values):>18}" for values in found[beta].values()), flush=True)
    show(found, picture)
    return found


def trained(train: ImageData, beta: float, seed: int, steps: int) -> VAE:
    torch.manual_seed(seed)
    program = VAE(train.mean().numel(), LATENT, HIDDEN, data_mean=train.mean(), activation="tanh")
    optimizer = Adam(program.parameters(), lr=RATE, fused=True)
    fit(Loss(Beta(AnalyticKL(), beta), program), islice(Epochs(train, BATCH, seed=seed), steps), optimizer).run()
    return program


def scores(program: VAE, test: ImageData, tested: int | None) -> dict[str, float]:
    x = test.rows(torch.arange(len(test)))[:tested]
    units, plane = active_units(program, x, num_particles=2), rate_distortion(program, x)
    return {
        "rate": float(plane.rate.mean()),
        "distortion": float(plane.distortion.mean()),
        "MIG": mutual_information_gap(units.means["z"], factors_of(test, count=tested).levels),
        "active units": float(units.counts["z"]),
    }


def over_seeds(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" +- {stdev(values):.2f}" if len(values) > 1 else " (one seed)")


def show(found: dict[float, Scores], picture: str) -> None:
    """The rate-distortion curve, and MIG by beta beside it: a point a seed, lines through the means."""
    from matplotlib.figure import Figure as Picture

    figure = Picture(figsize=(9, 4), layout="constrained")
    plane, by_beta = figure.subplots(1, 2)
    means = [[mean(of[name]) for of in found.values()] for name in ("distortion", "rate", "MIG")]
    plane.plot(means[0], means[1], "-", color="grey")
    by_beta.plot(list(found), means[2], "-", color="grey")
    for beta, of in found.items():
        plane.plot(of["distortion"], of["rate"], "o", label=f"beta {beta:g}")
        by_beta.plot([beta] * len(of["MIG"]), of["MIG"], "o")
    plane.set(xlabel="distortion, nats", ylabel="rate, nats")
    plane.legend()
    by_beta.set(xlabel="beta", ylabel="MIG", xscale="log")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    print(f"wrote {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The beta-VAE on sprites whose factors are known")
    parser.add_argument("--betas", type=float, nargs="+", default=(0.5, 2.0, 8.0))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--picture", default="runs/disentanglement.png")
    main(**vars(parser.parse_args()))
