"""Learn mu in R^2 so that z ~ N(mu, I) lies near (5, 5), with the score-function and the pathwise gradient.

The cost is E ||z - c||^2, whose gradient 2 (mu - c) is known, and so is the variance of each estimator. As
a Pyro program: the prior is the guide held still, so that the elbo has no other term than minus the cost.

    python examples/toy_score_vs_pathwise.py

Expected (11 s on two cores): a table in which the measured variances agree with the closed forms, 4
(pathwise), 3224 (score function) and 308 (leave-one-out, K = 2) per coordinate. All three reach (5, 5): the
picture, runs/toy_score_vs_pathwise.png, shows the first on a straight line, the second on a random walk.
"""

from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction

TARGET = torch.tensor([5.0, 5.0])


class NormalWithoutPath(dist.Normal):
    """A normal whose draws carry no gradient (`has_rsample_(False)` would not survive the plate's expand)."""

    has_rsample = False


class Toy(nn.Module):
    """The guide draws z ~ N(mu, I), the model pays ||z - TARGET||^2 for it."""

    def __init__(self, guide_distribution: type[dist.Normal]) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(2))
        self.guide_distribution = guide_distribution

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.mu.detach(), 1.0).to_event(1))  # (K, B, 2)
            pyro.factor("cost", -(z - TARGET).square().sum(-1))

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.guide_distribution(self.mu, 1.0).to_event(1))


def main(steps: int = 300, replicates: int = 2000, picture: str = "runs/toy_score_vs_pathwise.png"):
    torch.manual_seed(0)
    losses = {  # the KL is zero and so is its gradient, which AnalyticKL knows: what is left is the path's
        "pathwise": Loss(AnalyticKL(), Toy(dist.Normal)),
        "score function": Loss(ScoreFunction(elbo), Toy(NormalWithoutPath)),
        "leave-one-out, K = 2": Loss(LeaveOneOut(elbo, num_particles=2), Toy(NormalWithoutPath)),
    }
    expected = closed_forms(delta=-TARGET)
    variances, paths = {}, {}
    print(f"{'variance of d/dmu at (0, 0)':28}{'measured':>12}{'s.e.':>8}{'closed form':>14}")
    for name, loss in losses.items():
        draws = torch.stack([gradient(loss) for _ in range(replicates)])  # (R, 2)
        squares = (draws - draws.mean(0)).square() * replicates / (replicates - 1)
        variances[name] = squares.mean(0), squares.std(0) / replicates**0.5  # (2,) each
        for i, (variance, error) in enumerate(zip(*variances[name], strict=True)):
            print(f"{name:22}{f'mu_{i + 1}':6}{variance:12.4g}{error:8.2g}{expected[name][i]:14.4g}")
        paths[name] = descend(loss, steps)
    for name, path in paths.items():
        print(f"{name:22} mu after {steps} steps: ({path[-1, 0]:.2f}, {path[-1, 1]:.2f})")
    draw(paths, picture)
    return variances, expected, paths


def gradient(loss: Loss) -> Tensor:
    loss.zero_grad()
    loss(torch.zeros(1)).backward()  # one datum, whose value does not matter
    return loss.program.mu.grad.clone()


def closed_forms(delta: Tensor, K: int = 2) -> dict[str, Tensor]:
    """The variance of each coordinate of the gradient at mu = c + delta, sigma = 1."""
    A, D = delta.square().sum(), len(delta)  # z - c = delta + eps, f = ||z - c||^2, score = eps
    signal, both = 4 * A + 2 * D, 4 * A + 8 * delta**2 + 2 * (D + 4)  # V[f], E[(f - E f)^2 eps_i^2]
    mean = 2 * delta  # leave-one-out is the unbiased sample covariance of f and score, whose mean this is
    return {
        "pathwise": torch.full_like(delta, 4.0),
        "score function": A**2 + 2 * A * (D + 4) + (D + 2) * (D + 4) + 4 * delta**2,
        "leave-one-out, K = 2": (both - mean**2) / K + (signal + mean**2) / (K * (K - 1)),
    }


def descend(loss: Loss, steps: int, lr: float = 0.01) -> Tensor:
    """Plain gradient descent on mu, (steps + 1, 2)."""
    mu = loss.program.mu
    path = [mu.detach().clone()]
    for _ in range(steps):
        mu.data -= lr * gradient(loss)
        path.append(mu.detach().clone())
    return torch.stack(path)


def draw(paths: dict[str, Tensor], picture: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    for ax, (name, path) in zip(figure.subplots(1, 3, sharex=True, sharey=True), paths.items(), strict=True):
        grid = torch.linspace(-3, 8, 80)
        cost = (grid[:, None] - TARGET[1]).square() + (grid[None, :] - TARGET[0]).square() + 2
        ax.contour(grid, grid, cost, levels=14, colors="0.8", linewidths=0.8)
        steps = path.diff(dim=0)  # minus the learning rate times the gradient
        arrows = dict(angles="xy", scale_units="xy", scale=1, width=0.005, headwidth=4, cmap="viridis")
        quiver = ax.quiver(*path[:-1].T, *steps.T, torch.arange(len(steps)), **arrows)
        ax.plot(*TARGET, "x", color="crimson", markersize=9, markeredgewidth=2)
        ax.set(title=name, xlabel="$\\mu_1$", aspect="equal")
    figure.axes[0].set_ylabel("$\\mu_2$")
    figure.colorbar(quiver, ax=figure.axes, label="step")
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
