"""The variance of gradient estimators along one trajectory: the comparison in REBAR's README.

Protocol, that of Tucker et al.'s published code (tensorflow/models, research/rebar): a linear belief net 200-200,
latents entering as 2 b - 1, data centred, weights of variance 2 / fan-in, the data's bias from the train mean, a
learnable prior; Adam with beta2 = .99999 and a rate of 3e-4, ten times that for what an estimator learns;
minibatches of 24, one draw a datum. The net follows SimpleMuProp; at every step each estimator's gradient is taken
on the same minibatch and enters moving averages, of decay .999, of itself and of its square. Told is the log of the
variance, the mean over all parameters of model and guide, of the gradient of the mean over the minibatch, as there.
Otherwise than there, MuProp and REBAR have no learned baseline beside their own control variate.

    python examples/rebar_variance.py --data FOLDER    static binarized MNIST, binarized_mnist.npz or .amat files
    python examples/rebar_variance.py                  scikit-learn's digits

Expected (2 to 3 minutes on one core, 1918 steps), nats:

                         MNIST, step 959, 1918    README (Omniglot)
    NVIL                         3.60     2.44         2.76    2.27
    SimpleMuProp                 1.11     0.38        -0.04   -0.71
    MuProp                       1.08     0.33        -0.03   -0.72
    REBAR                       -2.14    -2.87        -3.54   -3.66

The order is the README's, SimpleMuProp and MuProp are as close, and REBAR is 5.7 and 5.3 nats below NVIL (there 6.3
and 5.9). NVIL whose baseline also holds a running mean, our `LearnedBaseline`, is at -0.18 and -0.86: below MuProp.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.data.batches import batches
from pplvm.data.binarization import binarize
from pplvm.data.image_data import ImageData
from pplvm.data.images import binarized_mnist, digits
from pplvm.objectives.baselines import LearnedBaseline
from pplvm.objectives.control_variates import REBAR, MuProp
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.score_function import ScoreFunction
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

BATCH, RATE, DECAY = 24, 3e-4, 0.999
FOLLOWED = "SimpleMuProp"
ESTIMATORS: dict[str, Callable[[int], Objective]] = {
    "NVIL": lambda data_size: ScoreFunction(elbo, 1, NetworkBaseline(data_size)),
    "NVIL, running mean": lambda data_size: ScoreFunction(elbo, 1, LearnedBaseline(data_size)),
    "SimpleMuProp": lambda _: MuProp(linear=False),
    "MuProp": lambda _: MuProp(),
    "REBAR": lambda _: REBAR(),
}
PUBLISHED = {  # the README's, by step, on Omniglot
    959: {"NVIL": 2.76, "SimpleMuProp": -0.04, "MuProp": -0.03, "REBAR": -3.54},
    1918: {"NVIL": 2.27, "SimpleMuProp": -0.71, "MuProp": -0.72, "REBAR": -3.66},
}


class NetworkBaseline(nn.Module):
    """NVIL's as published there: a network of the data, without the running mean of `LearnedBaseline`."""

    def __init__(self, data_size: int) -> None:
        super().__init__()
        self.network = LearnedBaseline(data_size).network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1)  # (B,)

    def observe(self, signal: Tensor) -> None:
        """It has no state but its parameters."""


class Moments:
    """Moving averages of a gradient and of its square, without the bias of their start at zero."""

    def __init__(self) -> None:
        self.first, self.second, self.weight = torch.zeros(()), torch.zeros(()), 0.0

    def observe(self, gradient: Tensor) -> None:
        self.first = DECAY * self.first + (1 - DECAY) * gradient
        self.second = DECAY * self.second + (1 - DECAY) * gradient.square()
        self.weight = DECAY * self.weight + (1 - DECAY)

    def log_variance(self) -> float:
        """Of a parameter, on average, in nats."""
        variance = self.second / self.weight - (self.first / self.weight).square()
        return float(variance.mean().log())


def main(
    steps: int = 1918, data: str | None = None, sizes: tuple[int, ...] = (200, 200), output="runs/rebar_variance.png"
) -> dict[str, dict[int, float]]:
    """Log-variances by estimator and step, of the gradient of minus the elbo, mean over the minibatch."""
    torch.manual_seed(0)
    images = binarize(digits("train"), "static") if data is None else binarized_mnist("train", data)
    mean = images.mean()
    program = start_as_published(SigmoidBeliefNet(mean.numel(), sizes, data_mean=mean))
    losses = {name: Loss(build(mean.numel()), program) for name, build in ESTIMATORS.items()}
    curves = follow(losses, program, images, steps)
    told = [step for step in PUBLISHED if step <= steps] or [steps]
    for step in told:
        print(f"\n{f'log-variance at step {step}, of':30}{'mean':>8}{'sum':>8}{'README':>8}    over the minibatch")
        for name, curve in curves.items():
            scaled = curve[step] + 2 * torch.tensor(BATCH).log().item()
            published = PUBLISHED.get(step, {}).get(name)
            print(f"  {name:28}{curve[step]:8.2f}{scaled:8.2f}" + ("" if published is None else f"{published:8.2f}"))
    draw(curves, output)
    return curves


def start_as_published(net: SigmoidBeliefNet) -> SigmoidBeliefNet:
    """Weights of variance 2 / fan-in, biases of zero but for the data's."""
    for layer in [module for module in net.modules() if isinstance(module, nn.Linear)]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer is not net.decoders[-1].last:
            nn.init.zeros_(layer.bias)
    return net


def follow(losses: dict[str, Loss], program: SigmoidBeliefNet, images: ImageData, steps: int) -> dict:
    """Train by one estimator and watch all: the log-variance of each at every tenth step and at the README's."""
    controls = [p for loss in losses.values() if loss.control is not None for p in loss.control.parameters()]
    groups = [{"params": list(program.parameters())}, {"params": controls, "lr": 10 * RATE}]
    optimizer = torch.optim.Adam(groups, lr=RATE, betas=(0.9, 0.99999), fused=True)
    moments = {name: Moments() for name in losses}
    curves = {name: {} for name in losses}
    last = sorted(losses, key=lambda name: name == FOLLOWED)  # whose gradient is left to the optimizer
    for step, x in zip(range(1, steps + 1), endless(images), strict=False):
        optimizer.zero_grad()
        for name in last:
            program.zero_grad()
            losses[name](x).backward()
            moments[name].observe(torch.cat([p.grad.flatten() for p in program.parameters()]))
        optimizer.step()
        if step % 10 == 0 or step in PUBLISHED or step == steps:
            for name, curve in curves.items():
                curve[step] = moments[name].log_variance()
    return curves


def endless(images: ImageData) -> Iterator[Tensor]:
    epoch = 0
    while True:
        yield from batches(images, BATCH, epoch=epoch, drop_last=True)
        epoch += 1


def draw(curves: dict[str, dict[int, float]], output: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        ax.plot(curve.keys(), curve.values(), color=f"C{i}", label=name)
        points = {step: values[name] for step, values in PUBLISHED.items() if name in values and step in curve}
        ax.plot(points.keys(), points.values(), "x", color=f"C{i}")
    ax.set(xlabel="step", ylabel="log-variance of a parameter's gradient, nats", title="crosses: README, Omniglot")
    ax.legend()
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)
    print(f"wrote {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of static binarized MNIST; without it, digits")
    parser.add_argument("--steps", type=int, default=1918)
    parser.add_argument("--output", default="runs/rebar_variance.png")
    main(**vars(parser.parse_args()))
