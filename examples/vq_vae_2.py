"""VQ-VAE-2 on digits by class, and two ways to choose among its samples, judged by a classifier that saw none of it.

Stage one learns codes on two grids under a uniform prior; stage two freezes them and learns their prior by class, a
gated PixelCNN on each grid. Samples of each class are then chosen by a classifier: rejection sampling accepts with
probability p(y | x), which gives p(x | y) p(y | x) / E; the best-ranked fifth is kept by the same score. The data are
parted in three: the program and the choosing classifier have one part, the judge another, and the accuracy of both
classifiers is that on a third, which neither they nor the program have seen.

    python examples/vq_vae_2.py

Expected (300 steps of each part: 41 s of processor time), 100 samples, ten of each class:

    right by the classifier that chooses    92.3 %    of 300 test images
    right by the judge                      89.7 %    of the same
    acceptance                               .70      from .48 (eights) to .91 (fours)

    of their class to the judge: as drawn    62 %
                                 accepted    92 %
                                 best fifth  99 %

References:
    Razavi, van den Oord and Vinyals, Generating diverse high-fidelity images with VQ-VAE-2, 2019, arXiv:1906.00446
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from pplvm.data.binarization import binarize
from pplvm.data.images import digits
from pplvm.evaluation.rejection import best_ranked_samples, rejection_samples
from pplvm.evaluation.samples import prior_samples
from pplvm.graphs.compiled import compiled
from pplvm.networks.classifier import CrossEntropy, ImageClassifier, accuracy
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss
from pplvm.objectives.penalized import Penalized
from pplvm.plots.images import save_grid
from pplvm.programs.vq_vae_2 import VQVAE2, vq_vae_2
from pplvm.training.fit import fit
from pplvm.training.stages import initialize, train_only

SHAPE, CLASSES, BATCH = (1, 8, 8), 10, 100


def main(steps: int = 300, count: int = 100, picture: str = "runs/vq_vae_2.png") -> dict[str, float]:
    """Shares of samples that the judge reads as their class: as drawn, accepted, and best-ranked."""
    (x, y), (test, of_test) = (labelled(split) for split in ("train", "test"))
    ours, judges = slice(0, 2 * len(x) // 3), slice(2 * len(x) // 3, None)
    torch.manual_seed(0)
    chooser, judge = (ImageClassifier(SHAPE, CLASSES) for _ in range(2))
    for classifier, part in ((chooser, ours), (judge, judges)):
        learn(CrossEntropy(classifier), x[part], y[part], steps=steps)
    for name, classifier in (("chooser", chooser), ("judge", judge)):
        print(
            f"{name}: {100 * accuracy(classifier, test, of_test):.1f} % of {len(test)} images right that none has seen"
        )

    program = two_stages(x[ours], y[ours], steps)
    labels = torch.arange(count) % CLASSES
    like = test[:1].expand(count, *SHAPE), labels

    def probability(images: Tensor, classes: Tensor) -> Tensor:
        return chooser(images.flatten(1)).softmax(-1).gather(-1, classes[:, None]).squeeze(-1)

    accepted = rejection_samples(program, like, probability, count)
    ranked = best_ranked_samples(program, like, probability, count, share=0.2)
    print(
        f"acceptance {accepted.acceptance:.2f}, by class",
        {k: round(a, 2) for k, a in accepted.acceptance_by_class.items()},
    )
    draws = {"as drawn": prior_samples(program, like, count).draw, "accepted": accepted.draw, "best fifth": ranked.draw}
    found = {name: accuracy(judge, each, labels) for name, each in draws.items()}
    for name, share in found.items():
        print(f"{name:10} {100 * share:.1f} % of {count} samples are of their class to the judge")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.stack([each[:CLASSES].squeeze(1) for each in draws.values()]), picture, list(draws))
    return found


def labelled(split: str) -> tuple[Tensor, Tensor]:
    """Binary images (N, 1, 8, 8) of a split, and their labels."""
    data = binarize(digits(split), "static").conditioned("labels")
    x, y = data.batch(torch.arange(len(data)))
    return x.reshape(-1, *SHAPE), y


def two_stages(x: Tensor, y: Tensor, steps: int) -> VQVAE2:
    """Codes under a uniform prior, then their prior by class with all else frozen."""
    known = {"data_mean": x.mean(0).flatten(), "data_examples": x[:500].flatten(1)}
    first = vq_vae_2(SHAPE, **known)
    learn(Loss(Penalized(BiasedPathwise(), first.default_penalties), first), x, steps=steps)
    program = vq_vae_2(SHAPE, prior="pixelcnn", prior_width=32, prior_layers=2, num_classes=CLASSES)
    initialize(program, first.state_dict())
    train_only(program, "prior")
    learn(Loss(BiasedPathwise(), program), x, y, steps=steps)
    return program.eval()


def learn(loss: nn.Module, *data: Tensor, steps: int) -> None:
    """Adam on random batches, its rate falling to a tenth."""
    optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=3e-3)
    rows = (torch.randint(len(data[0]), (BATCH,)) for _ in range(steps))
    run = fit(compiled(loss, "graph"), (tuple(part[i] for part in data) for i in rows), optimizer)
    for number, _ in enumerate(run):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - 0.9 * number / steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--picture", default="runs/vq_vae_2.png")
    main(**vars(parser.parse_args()))
