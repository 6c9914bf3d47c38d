"""A delta-VAE beside a VAE under a decoder that is paid to ignore its latents: the rate that cannot collapse.

Both have 16 Gaussian latents and layers of 200. At beta = 5 each nat of rate costs five: the VAE's rate falls to 0 and
it tells nothing; the delta-VAE's prior, AR(1) over 4 steps, is one that no independent posterior can match, and its
rate stays above the floor that is known before training.

    python examples/delta_vae.py       scikit-learn's digits, 1 where a pixel is above half of the top

The floor of four correlations 1/8, 3/8, 5/8, 7/8 over 4 steps is 2.10 nats, whatever is trained. Expected (37 s of a
core), test split of 300, nats; errors over data .2 of log p(x):

                        floor     rate    distortion    log p(x), k = 1000
    VAE, beta 1           0       5.56       13.22           -18.16
    VAE, beta 5           0       0.00       24.53           -24.48
    delta-VAE, beta 1    2.10     7.49       10.96           -17.50
    delta-VAE, beta 5    2.10     2.49       19.60           -20.22
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import digits
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.tempered import Beta
from pplvm.plots.images import save_grid
from pplvm.programs.delta_vae import DeltaVAE
from pplvm.programs.vae import VAE
from pplvm.training.fit import fit

BATCH, RATE, LATENT = 100, 1e-3, 16


def main(
    steps: int = 2000, beta: float = 5.0, most: int = 1000, tested: int | None = None, picture="runs/delta_vae.png"
) -> dict[tuple[str, float], dict[str, float]]:
    """The figures of the test split, or of its first data, by program and beta; the floor beside the rate."""
    train, test = (binarize(digits(split), "static") for split in ("train", "test"))
    x = test.rows(torch.arange(len(test)))[:tested]
    found, drawn = {}, {}
    for name, maker in {"vae": VAE, "delta-vae": DeltaVAE}.items():
        for weight in (1.0, beta):
            torch.manual_seed(0)
            program = maker(train.mean().numel(), LATENT, data_mean=train.mean())
            learn(program, train, steps, weight)
            drawn[f"{name}, beta {weight:g}"] = prior_samples(program, x[:1], 10).mean
            rate, distortion = (
                next(each.value for each in rate_distortion(program, x).figures if each.name == wanted)
                for wanted in ("rate", "distortion")
            )
            bound = importance_sampled(program, x, ks=(1, most)).figures[1]
            floor = program.minimum_rate() if isinstance(program, DeltaVAE) else 0.0
            found[name, weight] = {"floor": floor, "rate": rate, "distortion": distortion, bound.name: bound.value}
    print(f"{'':20}" + "".join(f"{name:>22}" for name in next(iter(found.values()))))
    for (name, weight), row in found.items():
        print(f"{name:10} beta {weight:<5g}" + "".join(f"{value:22.3f}" for value in row.values()))
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.stack(list(drawn.values())), picture, list(drawn))
    print(f"samples of the prior, a row each: {picture}")
    return found


def learn(program: nn.Module, train: ImageData, steps: int, beta: float) -> None:
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(program.parameters(), lr=RATE, fused=True)
    loss = compiled(Loss(Beta(AnalyticKL(), beta), program), "graph")
    for _ in fit(loss, islice(Epochs(train, BATCH), steps), optimizer):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--beta", type=float, default=5.0, help="weight of the rate in the collapsed runs")
    parser.add_argument("--picture", default="runs/delta_vae.png")
    main(**vars(parser.parse_args()))
