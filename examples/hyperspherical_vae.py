"""A VAE on the unit sphere: the rate is chosen before training, and no datum leaves it.

KL(q(z | x) || uniform) of a power spherical posterior depends on its concentration and on the dimension alone, so the
decoder gets the same number of nats for every datum and can never be left without any: posterior collapse is ruled out
by the program, not by a warm-up. What the rate buys is read from the distortion.

    python examples/hyperspherical_vae.py

Expected (2,000 steps each), the 300 test digits, nats:

    kappa    known rate    rate, its spread    distortion    -elbo    -log p(x), k = 1000
       10        1.5292    1.5292, 0                20.63    22.16    20.96 +- 0.19
       70        7.8428    7.8428, 0                11.88    19.72    18.82 +- 0.21

Independent pixels need 24.46 nats.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam

from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.images import digits
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import interpolations
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.plots.images import save_grid
from pplvm.programs.hyperspherical_vae import HypersphericalVAE
from pplvm.training.fit import fit

BATCH, RATE, LATENT, CONCENTRATIONS = 100, 1e-3, 12, (10.0, 70.0)


def main(
    steps: int = 2000, tested: int = 300, most: int = 1000, picture: str = "runs/hyperspherical_vae.png"
) -> dict[float, dict]:
    """Train a program for each concentration; returns its figures.

    Arguments:
        steps: of training.
        tested: test data at most, at least 12.
        most: k of the importance-sampled likelihood.
        picture: where the interpolations between test data are drawn.
    """
    train, test = (binarize(digits(split), "static") for split in ("train", "test"))
    x = test.rows(torch.arange(min(tested, len(test))))
    found = {}
    print("kappa    known rate    rate, its spread    distortion    -elbo    -log p(x)")
    for kappa in CONCENTRATIONS:
        torch.manual_seed(0)
        program = HypersphericalVAE(64, LATENT, data_mean=train.mean(), concentration=kappa)
        known = program.rate  # before any step
        optimizer = Adam(program.parameters(), lr=RATE, fused=True)
        for _ in fit(Loss(AnalyticKL(), program), islice(Epochs(train, BATCH), steps), optimizer):
            pass
        found[kappa] = told = {"known rate": known} | figures(program, x, most)
        print(
            f"{kappa:5g}    {known:10.4f}    {told['rate']:.4f}, {told['spread']:.0e}    {told['distortion']:13.2f}"
            f"    {-told['elbo']:5.2f}    {-told['log p(x)']:.2f} +- {told['error']:.2f}"
        )
    path = interpolations(program, x[:6], x[6:12], 9, how="spherical")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(path.numpy(), picture, [f"{i} to {i + 6}" for i in range(6)])
    print(f"paths along the sphere between test data: {picture}")
    return found


def figures(program: HypersphericalVAE, x: Tensor, most: int) -> dict[str, float]:
    """Rate with its spread over data, distortion, elbo and log p(x) by importance sampling, in nats."""
    measured = rate_distortion(program, x, num_particles=20)
    likelihood = {figure.name: figure for figure in importance_sampled(program, x, ks=[1, most]).figures}
    return {
        "rate": float(measured.rate.mean()),
        "spread": float(measured.rate.std()),
        "distortion": float(measured.distortion.mean()),
        "elbo": float(measured.elbo.mean()),
        "log p(x)": likelihood[f"log p(x), k = {most}"].value,
        "error": likelihood[f"log p(x), k = {most}"].error,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    main(parser.parse_args().steps)
