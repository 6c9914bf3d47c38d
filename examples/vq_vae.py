"""A VQ-VAE judged by its likelihood: what its bound hides, and what a stochastic guide over the same codes gains.

Four codes, each one of 16, stand for a digit: at most 11.09 nats, and 65,536 states, so that log p(x) is summed
exactly. The one guide names the nearest code and learns straight through; the other draws codes by their distance and
learns by leave-one-out, by the true gradient. Both have a softplus layer of 200 in encoder and decoder and see the same
batches of 100 in 2,000 steps of Adam at 1e-3.

    python examples/vq_vae.py          scikit-learn's digits, 1 where a pixel is above half of the top

Expected (25 s of a core), test split of 300, nats; errors over data .3:

                  elbo      rate    distortion    log p(x), exact    codes used
    nearest      -21.34    11.09         10.25             -17.87            16
    stochastic   -18.33     4.49         13.85             -17.68            16

The point guide pays N log K for codes that it could have said in less: 3.5 nats of its bound are that, and no fault of
the model, whose likelihood is that of the other to .2 nats.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch

from pplvm.catalog import OBJECTIVES, load
from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.data.images import digits
from pplvm.distributions.nearest_code import nearest
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import reconstructions
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.penalized import Penalized
from pplvm.plots.images import save_grid
from pplvm.programs.vq_vae import VQVAE, vq_vae
from pplvm.training.fit import fit

BATCH, RATE = 100, 1e-3


def main(
    steps: int = 2000, num_codes: int = 16, num_test: int = 300, picture: str = "runs/vq_vae.png"
) -> dict[str, dict[str, float]]:
    """The figures of the test split, by posterior."""
    train, test = (binarize(digits(split), "static") for split in ("train", "test"))
    examples = train.rows(torch.arange(500) * len(train) // 500).flatten(1)
    x = test.rows(torch.arange(num_test))
    found, drawn = {}, {"data": x[:10]}
    for posterior in ("nearest", "stochastic"):
        torch.manual_seed(0)
        program = vq_vae(64, (2, 2), num_codes, posterior=posterior, data_mean=train.mean(), data_examples=examples)
        learn(program, train, steps)
        found[posterior] = judged(program, x)
        drawn[posterior] = reconstructions(program, x[:10])
    print(f"{'':12}" + "".join(f"{name:>20}" for name in next(iter(found.values()))))
    for name, row in found.items():
        print(f"{name:12}" + "".join(f"{value:20.2f}" for value in row.values()))
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.stack([row.reshape(10, 8, 8) for row in drawn.values()]), picture, list(drawn))
    print(f"data and their reconstructions, a row each: {picture}")
    return found


def learn(program: VQVAE, train: ImageData, steps: int) -> None:
    """By the objective and the penalties that the program names itself, as `pplvm fit` does."""
    torch.manual_seed(1)
    objective = load(OBJECTIVES[program.default_objective].path)()
    if program.default_penalties:
        objective = Penalized(objective, program.default_penalties)
    optimizer = torch.optim.Adam(program.parameters(), lr=RATE, fused=True)
    for _ in fit(compiled(Loss(objective, program), "graph"), islice(Epochs(train, BATCH), steps), optimizer):
        pass


def judged(program: VQVAE, x: torch.Tensor) -> dict[str, float]:
    of_bound = {each.name: each.value for each in rate_distortion(program, x).figures}
    exact = log_evidence(program, x)
    assert exact is not None
    with torch.no_grad():
        used = nearest(program.encoder(x), program.codebook.codes).unique()
    bound = {name: of_bound[name] for name in ("elbo", "rate", "distortion")}
    return bound | {"log p(x), exact": float(exact.log_p.mean()), "codes used": float(len(used))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--num-codes", type=int, default=16)
    parser.add_argument("--picture", default="runs/vq_vae.png")
    main(**vars(parser.parse_args()))
