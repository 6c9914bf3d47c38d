"""An importance weighted autoencoder, K = 50, of digits binarized anew in every epoch, as Burda et al. train it.

Their architecture (50 Gaussian latents, two tanh layers of 200 in encoder and decoder), their batches of 20 and
their Adam (epsilon 1e-4), at 3e-3 falling to 0 along a cosine; they take 3,280 epochs. For the first steps a loop
written by hand in torch runs beside it: same weights, same batches, same noise. It must stay beside ours; a third run,
by hand with other noise, shows what chance does.

    python examples/iwae_mnist.py                  scikit-learn's digits
    python examples/iwae_mnist.py --data FOLDER    MNIST, FOLDER/MNIST/raw/*-ubyte as torchvision lays it out
    python examples/iwae_mnist.py --dreg           the doubly reparameterized gradient, of both loops

Expected test figures in nats, of one core, evaluation and the loops by hand included:

                         -elbo    -log p(x), k = 5000    time
    digits               28.47      22.58 +- 0.19        92 s    3,000 steps; with --dreg 22.37 +- 0.19
    dynamic MNIST       117.15      97.51 +- 1.2        367 s    10,000 steps, every twentieth test image

The loop by hand agrees to the last digit shown at each tenth of its 1,000 steps; other noise puts it up to 1.1 nats
from itself on MNIST, where the bound still rises steeply. Burda et al. reach 84.78 in 3,280 epochs; here are 4.
"""

import argparse
import math
from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from pplvm.bounds import iwae
from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import digits, mnist
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE
from pplvm.training.fit import fit

K, BATCH, RATE, EPSILON, HIDDEN, LATENT = 50, 20, 3e-3, 1e-4, (200, 200), 50


def main(
    steps: int = 0,
    data: str | None = None,
    dreg: bool = False,
    beside: int = 1000,
    tested: int = 500,
    most: int = 5000,
    picture: str = "runs/iwae_mnist.png",
) -> tuple[dict[str, Tensor], dict[str, Figure]]:
    """The bound by tenths of the steps `beside`, ours and by hand, and the figures of the test split at k <= `most`."""
    steps = steps or (3000 if data is None else 10000)
    torch.manual_seed(0)
    train, test = (read(split, data) for split in ("train", "test"))
    program = VAE(train.mean().numel(), LATENT, HIDDEN, data_mean=train.mean(), activation="tanh")
    by_hand = [[copied(network.layers) for network in (program.encoder, program.decoder)] for _ in range(2)]

    torch.manual_seed(1)
    optimizer = Adam(program.parameters(), lr=RATE, eps=EPSILON, fused=True)
    schedulers = [CosineAnnealingLR(optimizer, steps)]
    loss = Loss(DoublyReparameterized(iwae, K) if dreg else Pathwise(iwae, K), program)
    losses = fit(loss, islice(Epochs(train, BATCH), steps), optimizer, schedulers=schedulers)
    curves = {"pplvm": averaged(-torch.stack(list(losses)), beside // 10)}
    for seed, (name, networks) in enumerate(zip(("by hand", "other noise"), by_hand, strict=True), start=1):
        torch.manual_seed(seed)
        bounds = learn_by_hand(*networks, islice(Epochs(train, BATCH), min(beside, steps)), steps, dreg)
        curves[name] = averaged(bounds, beside // 10)
    show(curves, beside // 10, picture)

    x = test.rows(torch.arange(0, len(test), max(1, len(test) // tested)))
    ks = [k for k in (1, 10, 50, 100, 1000, 5000) if k <= most]
    figures = [*importance_sampled(program, x, ks=ks).figures, *active_units(program, x).figures]
    print(f"\n{len(x)} of the {len(test)} test images of {test.spec.name}, binarization {test.spec.binarization}, once")
    print(*figures, sep="\n")
    return curves, {figure.name: figure for figure in figures}


def read(split: str, data: str | None) -> ImageData:
    return binarize(digits(split) if data is None else mnist(split, data), "dynamic")


def copied(layers: nn.Sequential) -> nn.Sequential:
    """The same layers in torch alone, from the same weights."""
    sizes = [layers[0].in_features, *(layer.out_features for layer in layers if isinstance(layer, nn.Linear))]
    copy = nn.Sequential(*[layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())][:-1])
    copy.load_state_dict(layers.state_dict())
    return copy


def learn_by_hand(encoder: nn.Module, decoder: nn.Module, batches: Iterable[Tensor], steps: int, dreg: bool) -> Tensor:
    """The bound of each step, without pplvm and Pyro."""
    optimizer = Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE, eps=EPSILON, fused=True)
    scheduler, bounds = CosineAnnealingLR(optimizer, steps), []
    for x in batches:
        x = x.flatten(1)
        loc, log_scale = encoder(x).chunk(2, dim=-1)
        loc, scale = loc.expand(K, -1, -1), log_scale.exp().expand(K, -1, -1)  # (K, B, Z)
        z = loc + scale * torch.randn_like(loc)
        if dreg:  # log q sees the encoder through z alone, whose slope is weighed twice
            loc, scale = loc.detach(), scale.detach()
        log_p_x = -binary_cross_entropy_with_logits(decoder(z), x.expand(K, *x.shape), reduction="none").sum(-1)
        log_weights = Normal(0.0, 1.0).log_prob(z).sum(-1) + log_p_x - Normal(loc, scale).log_prob(z).sum(-1)
        if dreg:
            share = log_weights.detach().softmax(0).unsqueeze(-1)
            z.register_hook(lambda gradient, share=share: share * gradient)
        bound = (log_weights.logsumexp(0) - math.log(K)).mean()
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        scheduler.step()
        bounds.append(bound.detach())
    return torch.stack(bounds)


def averaged(bounds: Tensor, width: int) -> Tensor:
    return torch.stack([part.mean() for part in bounds.split(width)])


def show(curves: dict[str, Tensor], width: int, picture: str) -> None:
    from matplotlib.figure import Figure as Picture

    ours, theirs, other = curves.values()
    what = f"iwae, K = {K}, of the training batches, nats"
    print(what, "".join(f"{name:>12}" for name in ("up to step", *curves)), sep="\n")
    for i, values in enumerate(zip(ours, theirs, other, strict=False), start=1):
        print(f"{i * width:12}", *(f"{value:12.2f}" for value in values), sep="")
    print(f"{'last':>12}{ours[-1]:12.2f}")
    apart, chance = float((theirs - ours[: len(theirs)]).abs().max()), float((theirs - other).abs().max())
    print(f"ours from that by hand: {apart:.2g} nats at most, {'below' if apart < 0.3 else 'ABOVE'} 0.3", end="; ")
    print(f"by other noise: {chance:.2g}")
    figure = Picture(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    for (name, curve), line in zip(curves.items(), ("-", "--", ":"), strict=True):
        ax.plot([width * (i + 1) for i in range(len(curve))], curve, line, label=name)
    ax.set(xlabel="step", ylabel=what)
    ax.legend()
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    print(f"wrote {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of MNIST's idx files; without it, digits")
    parser.add_argument("--dreg", action="store_true", help="the doubly reparameterized gradient")
    parser.add_argument("--steps", type=int, default=0, help="3,000 on digits, 10,000 on MNIST unless given")
    parser.add_argument("--beside", type=int, default=1000, help="steps by hand, at least 10")
    parser.add_argument("--tested", type=int, default=500, help="test images, evenly spread over the split")
    parser.add_argument("--picture", default="runs/iwae_mnist.png")
    main(**vars(parser.parse_args()))
