"""A RealNVP flow as prior, beside N(0, I) of the same networks.

Two variational autoencoders of binary digits start from the same weights and see the same batches, 16 latents and one
layer of 200 in encoder and decoder: one keeps the prior N(0, I), the other learns six affine couplings of it, which
start as N(0, I) exactly.

    python examples/flow_prior_vae.py                  scikit-learn's digits, 1 where a pixel is above half of the top
    python examples/flow_prior_vae.py --data FOLDER    static binarized MNIST, binarized_mnist.npz or .amat files

Expected (500 steps each, batches of 100, Adam at 2e-3 falling to 0 along a cosine), 100 test digits, nats:

    prior       -elbo    -log p(x), k = 100
    N(0, I)     19.60      19.26 +- 0.38
    RealNVP     18.76      18.38 +- 0.41
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import binarized_mnist, digits
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.samples import prior_samples
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.plots.images import save_grid
from pplvm.programs.flow_prior_vae import flow_prior_vae
from pplvm.programs.parts import StandardNormal
from pplvm.programs.vae import VAE
from pplvm.training.fit import fit

LATENT, HIDDEN, BATCH, RATE = 16, (200,), 100, 2e-3


def main(
    steps: int = 500, data: str | None = None, tested: int = 100, k: int = 100, picture: str = "runs/flow_prior_vae.png"
) -> dict[str, tuple[float, float]]:
    """Of each prior -elbo and -log p(x) of the test split."""
    train, test = (read(split, data) for split in ("train", "test"))
    x = test.rows(torch.arange(0, len(test), max(1, len(test) // tested)))[:tested]
    found, drawn = {}, {}
    print(f"{len(x)} test images of {test.spec.name}, {steps} steps, nats")
    print(f"{'prior':16}{'-elbo':>8}{f'-log p(x), k = {k}':>24}")
    for name in ("N(0, I)", "RealNVP"):
        torch.manual_seed(0)
        program = flow_prior_vae(train.mean().numel(), LATENT, HIDDEN, data_mean=train.mean())
        if name == "N(0, I)":
            program.prior = StandardNormal(LATENT)
        learn(program, train, steps)
        drawn[name] = prior_samples(program, x[:1], 10).mean
        short, long = importance_sampled(program, x, ks=(1, k)).figures[:2]
        found[name] = -short.value, -long.value
        likelihood = f"{-long.value:.2f} +- {long.error:.2f}"
        print(f"{name:16}{-short.value:8.2f}{likelihood:>24}")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.stack(list(drawn.values())), picture, list(drawn))
    print(f"samples of the prior, a row each: {picture}")
    return found


def read(split: str, data: str | None) -> ImageData:
    return binarize(digits(split), "static") if data is None else binarized_mnist(split, data)


def learn(program: VAE, train: ImageData, steps: int) -> None:
    torch.manual_seed(1)
    optimizer = Adam(program.parameters(), lr=RATE, fused=True)
    schedulers = [CosineAnnealingLR(optimizer, steps)]
    for _ in fit(Loss(Pathwise(), program), islice(Epochs(train, BATCH), steps), optimizer, schedulers=schedulers):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of static binarized MNIST; without it, digits")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--tested", type=int, default=100, help="test images, evenly spread over the split")
    parser.add_argument("--picture", default="runs/flow_prior_vae.png")
    main(**vars(parser.parse_args()))
