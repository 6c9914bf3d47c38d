"""Uniform against variational dequantization: the same flow, the same batches, the same number of steps.

A flow of grey digits, 8 x 8 pixels of 17 levels, is a density of real numbers, and the probability of an image is its
integral over the image's bin. Noise u in (0, 1) makes a bound of it, log p(k + u) - log q(u | k): uniform noise, or
noise of a flow that knows the image and is learned together with the density. More draws, k = 32, tighten both.

    python examples/dequantized_flow.py                  scikit-learn's digits, 17 levels
    python examples/dequantized_flow.py --data FOLDER    MNIST, 256 levels, as idx files in FOLDER/MNIST/raw

Expected (200 steps each, batches of 100, Adam at 2e-3 falling to 0 along a cosine), 100 test digits, bits/dim:

    dequantizer         k = 1             k = 32
    uniform         2.199 +- 0.019    2.113 +- 0.020
    variational     2.085 +- 0.021    2.027 +- 0.022
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import digits, mnist
from pplvm.evaluation.likelihood import bits_per_dim, importance_sampled
from pplvm.evaluation.samples import prior_samples
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.plots.images import save_grid
from pplvm.programs.dequantized_flow import DequantizedFlow, dequantized_flow
from pplvm.training.fit import fit

BATCH, RATE, KS = 100, 2e-3, (1, 32)


def main(
    steps: int = 200, data: str | None = None, tested: int = 100, picture: str = "runs/dequantized_flow.png"
) -> dict[str, list[float]]:
    """Of each dequantizer the bits/dim of the test split with 1 and 32 draws of the noise."""
    train, test = (read(split, data).with_channel() for split in ("train", "test"))
    x = test.rows(torch.arange(0, len(test), max(1, len(test) // tested)))[:tested]
    levels, found, drawn = test.spec.levels, {}, {}
    print(f"{len(x)} test images of {test.spec.name}, {levels} levels, {steps} steps, bits/dim")
    print(f"{'dequantizer':16}" + "".join(f"{f'k = {k}':>16}" for k in KS))
    for name in ("uniform", "variational"):
        torch.manual_seed(0)
        examples = train.rows(torch.arange(500)).flatten(1)
        program = dequantized_flow(examples.shape[1], levels, test.spec.shape, examples, name)
        learn(program, train, steps)
        drawn[name] = prior_samples(program, x[:1], 10).mean
        log_p = importance_sampled(program, x, ks=KS).log_p  # (N, 2)
        bits = [bits_per_dim(each, x[0].numel(), discrete=True, levels=levels) for each in log_p.T]
        found[name] = [each.value for each in bits]
        print(f"{name:16}" + "".join(f"{f'{each.value:.3f} +- {each.error:.3f}':>16}" for each in bits))
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.stack(list(drawn.values())), picture, list(drawn))
    print(f"samples of the prior, a row each: {picture}")
    return found


def read(split: str, data: str | None) -> ImageData:
    return digits(split) if data is None else mnist(split, data)


def learn(program: DequantizedFlow, train: ImageData, steps: int) -> None:
    torch.manual_seed(1)
    optimizer = Adam(program.parameters(), lr=RATE, fused=True)
    schedulers = [CosineAnnealingLR(optimizer, steps)]
    for _ in fit(Loss(Pathwise(), program), islice(Epochs(train, BATCH), steps), optimizer, schedulers=schedulers):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of MNIST; without it, digits")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tested", type=int, default=100, help="test images, evenly spread over the split")
    parser.add_argument("--picture", default="runs/dequantized_flow.png")
    main(**vars(parser.parse_args()))
