"""VQ-VAE in two stages on digits: codes under the uniform prior first, then a prior that learns which codes occur.

Stage one trains encoder, codebook and decoder; 2 x 2 codes of 16 cost 16 bits. Stage two leaves them as they are: codes
and distortions are computed once, and each prior learns the codes. log p(x | codes) of the test data is the same under
all, and the bits of the codes are the prior's own.

    python examples/vq_two_stages.py

Test data, 300 images, seed 0, 2,000 steps a stage:

                   codes    data  both, nats  bits/dim
    uniform        11.09   10.89       21.98    0.4954
    pixelcnn       10.92   10.89       21.80    0.4915
    transformer    13.08   10.89       23.96    0.5402
    absorbing      10.36   10.89       21.25    0.4789

Nothing stops a prior early here: on 1,297 images the transformer ends by learning them by heart, and costs more than
the uniform prior. `pplvm fit --early-stop` has the validation split to stop by.

The same on the command line, where the settings of stage one hold in stage two:

    pplvm fit --program vq-vae --output runs/vq
    pplvm fit --program vq-vae --set prior=pixelcnn --initial runs/vq --train prior --output runs/vq-pixelcnn
    pplvm evaluate runs/vq runs/vq-pixelcnn --output runs/vq-evaluated
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import pplvm
from pplvm.data.batches import batches
from pplvm.data.binarization import binarize
from pplvm.data.image_data import ImageData
from pplvm.evaluation.encoding import encode
from pplvm.evaluation.samples import prior_samples
from pplvm.networks.codebook import MovingAverageCodebook
from pplvm.programs.absorbing_prior import AbsorbingPrior
from pplvm.programs.code_priors import UniformCodePrior
from pplvm.programs.over_codes import OverCodes
from pplvm.programs.pixelcnn_prior import PixelCNNPrior
from pplvm.programs.transformer_prior import TransformerPrior
from pplvm.programs.vq_vae import VQVAE, vq_vae
from pplvm.training.stages import train_only

K, GRID = 16, (2, 2)

PRIORS: dict[str, Callable[[], nn.Module]] = {
    "uniform": lambda: UniformCodePrior(K, GRID),
    "pixelcnn": lambda: PixelCNNPrior(K, GRID, channels=16, kernel_sizes=(3, 3)),
    "transformer": lambda: TransformerPrior(K, GRID, width=32, num_layers=2),
    "absorbing": lambda: AbsorbingPrior(K, GRID, width=32, num_layers=2),
}


def main(
    steps: int = 2000, tested: int = 360, picture: str | Path = "vq-two-stages.png"
) -> dict[str, dict[str, float]]:
    """By prior: nats and bits/dim of the codes, of the data given these, and of both."""
    torch.manual_seed(0)
    train, test = (binarize(pplvm.digits(split), "static") for split in ("train", "test"))
    first = stage_one(train, steps)
    x = test.rows(torch.arange(min(tested, len(test))))
    found, samples = {}, {}
    for name, make in PRIORS.items():
        program = stage_two(first, make(), train, steps)
        figures = {figure.name: figure for figure in pplvm.evaluate(program, x, ks=(1, 10)).sections["codes"]}
        found[name] = {name: figure.value for name, figure in figures.items()}
        samples[name] = prior_samples(program, x[:1], 16).mean
    print(f"{'':12}{'codes':>8}{'data':>8}{'both, nats':>12}{'bits/dim':>10}")
    for name, of in found.items():
        both = of["codes and data, own bound"], of["codes and data, own bound, bits/dim"]
        print(f"{name:12}{of['codes']:8.2f}{of['data given codes']:8.2f}{both[0]:12.2f}{both[1]:10.4f}")
    draw(samples, picture)
    return found


def stage_one(train: ImageData, steps: int) -> VQVAE:
    """Encoder, codebook and decoder, under the uniform prior; codes are moving averages, dead ones start anew."""
    made = vq_vae(64, GRID, K, code_size=8, hidden_sizes=(200,), data_mean=train.mean())
    codebook = MovingAverageCodebook(K, 8, restart_below=0.1)
    program = VQVAE(made.encoder, codebook, made.decoder, made.likelihood, made.prior)
    loss = pplvm.Loss(pplvm.Penalized(pplvm.BiasedPathwise(), {"commitment": 0.25}), program)
    learn(loss, program, train, steps)
    return program


def stage_two(first: VQVAE, prior: nn.Module, train: ImageData, steps: int) -> VQVAE:
    """The parts of stage one under another prior, which alone learns, on codes that are computed once."""
    program = VQVAE(first.encoder, first.codebook, first.decoder, first.likelihood, prior)
    if any(True for _ in prior.parameters()):
        train_only(program, "prior")
        codes = encode(program, batches(train, 500, shuffle=False))
        over = OverCodes(program, codes.sites, codes.penalties)
        learn(pplvm.Loss(pplvm.BiasedPathwise(), over), prior, (codes.index, codes.terms), steps)
        train_only(program)
    return program.eval()


def learn(loss: nn.Module, part: nn.Module, data: object, steps: int) -> None:
    optimizer = torch.optim.Adam(part.parameters(), lr=3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    epochs = max(1, steps // 13)  # of 13 batches
    pplvm.fit(loss, data, optimizer, epochs=epochs, batch_size=100, schedulers=[schedule], clip=5.0).run()


def draw(samples: dict[str, torch.Tensor], path: str | Path) -> None:
    """A row of samples, means of p(x | codes), for each prior."""
    figure, axes = plt.subplots(len(samples), 1, figsize=(8, 0.75 * len(samples)), squeeze=False)
    for axis, (name, images) in zip(axes[:, 0], samples.items(), strict=True):
        axis.imshow(images.reshape(-1, 8, 8).permute(1, 0, 2).flatten(1).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_ylabel(name, rotation=0, ha="right")
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()
