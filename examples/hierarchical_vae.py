"""A hierarchy of three groups of latents beside a plain VAE, on binary digits: what each group tells of a datum.

The guide goes from the top down as the model does, each posterior relative to the prior that the groups above it give:
the KL of a group, its rate, is in closed form, and 0 at the start. Both programs see the same batches of 100 for as
many steps, Adam at 1e-3 falling to 0 along a cosine; the plain one has as many latents, in one group.

    python examples/hierarchical_vae.py                  scikit-learn's digits, 1 where a pixel is above half of the top
    python examples/hierarchical_vae.py --data FOLDER    static binarized MNIST, binarized_mnist.npz or .amat files

Expected on digits (1,500 steps each; 60 s of one core in all), 100 of the test images, nats:

                     -elbo    -log p(x), k = 1000    rate    of z_1, z_2, z_3
    hierarchical     17.43      16.33 +- 0.45        6.34    3.32, 1.67, 1.36
    plain            18.35      17.74 +- 0.40        5.89
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import binarized_mnist, digits
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import prior_samples
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.tempered import Warmup
from pplvm.plots.images import save_grid
from pplvm.programs.hierarchical_vae import hierarchical_vae
from pplvm.programs.vae import VAE
from pplvm.training.fit import fit

BATCH, RATE, GROUPS = 100, 1e-3, (8, 8, 8)


def main(
    steps: int = 0,
    data: str | None = None,
    tested: int = 100,
    k: int = 1000,
    picture: str = "runs/hierarchical_vae.png",
) -> dict[str, dict[str, Figure]]:
    """The figures of the test split, by program and name."""
    steps = steps or (1500 if data is None else 20000)
    train, test = (read(split, data) for split in ("train", "test"))
    x = test.rows(torch.arange(0, len(test), max(1, len(test) // tested)))
    D, mean = train.mean().numel(), train.mean()
    torch.manual_seed(0)
    programs = {
        "hierarchical": hierarchical_vae(D, GROUPS, data_mean=mean),
        "plain": VAE(D, sum(GROUPS), (200, 200), data_mean=mean, activation="tanh"),
    }
    print("rates before training:", *(f"{rate.mean():g}" for rate in rates(programs["hierarchical"], x).values()))

    found, drawn = {}, {}
    for name, program in programs.items():
        torch.manual_seed(1)  # the same batches
        learn(program, train, steps)
        drawn[name] = prior_samples(program, x[:1], 10).mean
        figures = [*rate_distortion(program, x).figures, *importance_sampled(program, x, ks=(k,)).figures]
        found[name] = {figure.name: figure for figure in figures}
        print(f"\n{name}, {len(x)} of the {len(test)} test images of {test.spec.name}", *figures, sep="\n")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.stack(list(drawn.values())), picture, list(drawn))
    print(f"samples of the prior, a row each: {picture}")
    return found


def read(split: str, data: str | None) -> ImageData:
    return binarize(digits(split), "static") if data is None else binarized_mnist(split, data)


def rates(program: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The KL of each group of latents for each datum, in closed form, (N,)."""
    return rate_distortion(program, x, num_particles=1).rate_sites


def learn(program: nn.Module, train: ImageData, steps: int) -> None:
    """Fit under the analytic KL, whose weight rises from 0 over the first tenth of the steps."""
    optimizer = Adam(program.parameters(), lr=RATE, fused=True)
    loss = Loss(Warmup(AnalyticKL(), max(1, steps // 10)), program)
    schedulers = [CosineAnnealingLR(optimizer, steps)]
    for _ in fit(loss, islice(Epochs(train, BATCH), steps), optimizer, schedulers=schedulers):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of static binarized MNIST; without it, digits")
    parser.add_argument("--steps", type=int, default=0, help="1,500 on digits, 20,000 on MNIST unless given")
    parser.add_argument("--tested", type=int, default=100, help="test images, evenly spread over the split")
    parser.add_argument("--k", type=int, default=1000, help="particles of the importance-sampled log p(x)")
    parser.add_argument("--picture", default="runs/hierarchical_vae.png")
    main(**vars(parser.parse_args()))
