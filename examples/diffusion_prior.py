"""A diffusion as the prior of a variational autoencoder's latents: in a second stage, and learned with the rest.

A variational autoencoder of binary digits under N(0, I), 16 latents and one layer of 200 in encoder and decoder; a
diffusion with 20 noisy latents learned on its frozen latents (stage two, by one step of the chain a datum); and
encoder, decoder and diffusion learned together. All three are evaluated by the same importance sampling, the
diffusions with all of their 20 latents. Samples go from noise through the reverse chain and the decoder.

    python examples/diffusion_prior.py                  scikit-learn's digits, 1 where a pixel is above half of the top
    python examples/diffusion_prior.py --data FOLDER    static binarized MNIST, binarized_mnist.npz or .amat files

Expected (2,000 steps a stage, Adam at 2e-3 falling to 0 along a cosine), 300 test digits, nats:

    prior                   -elbo    -log p(x), k = 1000    rate
    N(0, I)                 19.10       18.67 +- 0.22       4.47
    diffusion, stage two    19.01       18.56 +- 0.22       4.37
    diffusion, jointly      19.22       18.53 +- 0.24       4.07

(48 s of a core in all). Errors are over the data, which all three share; one seed.
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
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import prior_samples
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.plots.images import save_grid
from pplvm.programs.diffusion_prior import diffusion_prior
from pplvm.programs.vae import VAE
from pplvm.training.fit import fit
from pplvm.training.stages import initialize, train_only

LATENT, HIDDEN, BATCH, RATE, T = 16, (200,), 100, 2e-3, 20


def main(
    steps=2000, data: str | None = None, tested=300, k=1000, picture="runs/diffusion_prior.png"
) -> dict[str, tuple]:
    """Of each prior -elbo, -log p(x) and the rate of the test split."""
    train, test = (
        binarize(digits(split), "static") if data is None else binarized_mnist(split, data)
        for split in ("train", "test")
    )
    x = test.rows(torch.arange(0, len(test), max(1, len(test) // tested)))[:tested]
    words = {"latent_size": LATENT, "hidden_sizes": HIDDEN, "data_mean": train.mean()}
    D, found, drawn = train.mean().numel(), {}, {}
    torch.manual_seed(0)
    plain, second, jointly = (
        VAE(D, **words),
        diffusion_prior(D, num_steps=T, **words),
        diffusion_prior(D, num_steps=T, **words),
    )
    learn(plain, train, steps)
    print(f"stage two: {initialize(second, plain.state_dict())}")
    train_only(second, "prior")
    learn(second, train, steps)
    learn(jointly, train, steps)
    programs = {"N(0, I)": plain, "diffusion, stage two": second, "diffusion, jointly": jointly}
    print(f"{len(x)} test images of {test.spec.name}, {steps} steps, nats")
    print(f"{'prior':24}{'-elbo':>8}{f'-log p(x), k = {k}':>24}{'rate':>8}")
    for name, program in programs.items():
        log_p = importance_sampled(program, x, ks=(1, k)).log_p
        error = float(log_p[:, 1].std()) / len(x) ** 0.5
        rate = float(rate_distortion(program, x, num_particles=20).rate.mean())
        found[name] = (-float(log_p[:, 0].mean()), -float(log_p[:, 1].mean()), rate)
        print(f"{name:24}{found[name][0]:8.2f}{found[name][1]:17.2f} +- {error:.2f}{rate:9.2f}", flush=True)
        drawn[name] = prior_samples(program, x[:1], 12).mean
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    rows = torch.stack(list(drawn.values())).reshape(len(drawn), 12, *x.shape[1:])
    save_grid(rows, picture, list(drawn))
    print(f"samples of the priors, a row each: {picture}")
    return found


def learn(program: nn.Module, train: ImageData, steps: int) -> None:
    torch.manual_seed(1)
    optimizer = Adam([p for p in program.parameters() if p.requires_grad], lr=RATE, fused=True)
    schedulers = [CosineAnnealingLR(optimizer, steps)]
    fit(Loss(Pathwise(), program), islice(Epochs(train, BATCH), steps), optimizer, schedulers=schedulers).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of static binarized MNIST; without it, digits")
    parser.add_argument("--steps", type=int, default=2000, help="of each stage")
    parser.add_argument("--tested", type=int, default=300, help="test images, evenly spread over the split")
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--picture", default="runs/diffusion_prior.png")
    main(**vars(parser.parse_args()))
