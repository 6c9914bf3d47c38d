"""Sampling of priors over codes, 8x8 of K = 128, 64 grids side by side: with a cache, beside a full pass a code.

python -m benchmarks.peers.sampling [--rounds 7] [--threads 2] [--device cpu] [--json FILE]
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from benchmarks.peers.agreement import Verdict
from benchmarks.peers.tables import Section, Target, run
from pplvm.programs.pixelcnn_prior import PixelCNNPrior
from pplvm.programs.transformer_prior import TransformerPrior

__all__ = ["NAIVE", "OURS", "Draws", "Problem", "section", "sections"]

NAIVE, OURS = "naive: a full pass a code", "ours, with the cache"


@dataclass(frozen=True)
class Problem:
    """A prior over N codes of K, and how many grids are drawn.

    Arguments:
        build: makes the prior, which called gives a `CodePrior`.
        num_rows: grids drawn side by side, R.
        device: "cpu" or "cuda".
    """

    build: Callable[[], nn.Module]
    num_rows: int
    device: str = "cpu"

    def prior(self) -> nn.Module:
        """With the same weights at each call, also where they start at zero: codes then hang on each other."""
        torch.manual_seed(0)
        prior = self.build()
        with torch.no_grad():
            for parameter in prior.parameters():
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.5)
        return prior.eval().to(self.device)


@dataclass(frozen=True)
class Draws:
    """What draws one-hots (R, N, K)."""

    draw: Callable[[], Tensor]

    def step(self) -> Tensor:
        with torch.no_grad():
            return self.draw()


def sections(device: str) -> Iterator[Section]:
    pixelcnn = Problem(partial(PixelCNNPrior, 128, (8, 8), channels=64), 64, device)
    yield section("Gated PixelCNN, 64 channels x 6 layers", pixelcnn, [Target(OURS, 0.04, NAIVE)])
    transformer = Problem(partial(TransformerPrior, 128, (8, 8), width=128, num_layers=4, num_heads=4), 64, device)
    yield section("Causal transformer, 4 layers x 128, 4 heads", transformer, [Target(OURS, 0.07, NAIVE)])


def section(
    title: str, problem: Problem, targets: Sequence[Target] = (), others: Mapping[str, Callable[[], Any]] | None = None
) -> Section:
    """A table of one prior.

    Arguments:
        others: further contestants, such as those that only one kind of network has.
    """
    contestants = {
        NAIVE: lambda: Draws(partial(naive, problem.prior(), problem.num_rows)),
        **(others or {}),
        OURS: lambda: Draws(partial(ours, problem.prior(), problem.num_rows)),
    }
    return Section(title, contestants, judge_of(problem), targets, inner=1, unit=f"draw of {problem.num_rows} grids")


def naive(prior: nn.Module, num_rows: int) -> Tensor:
    """All logits anew for each code."""
    fn = prior()
    v = next(prior.parameters()).new_zeros(num_rows, *fn.event_shape)
    for n in range(v.shape[1]):
        v[:, n] = dist.OneHotCategorical(logits=fn.logits(v)[:, n], validate_args=False).sample()
    return v


def ours(prior: nn.Module, num_rows: int) -> Tensor:
    return prior().sample((num_rows,))


def judge_of(problem: Problem) -> Callable[[str, Any], Verdict]:
    """All codes must be those of full passes from the same seed, hang on each other, and be of many kinds."""

    @cache
    def trusted() -> Tensor:
        draws = Draws(partial(naive, problem.prior(), problem.num_rows))
        torch.manual_seed(1)
        return draws.step().argmax(-1)

    def judge(name: str, contestant: Any) -> Verdict:
        expected = trusted()
        torch.manual_seed(1)
        same = (contestant.step().argmax(-1) == expected).double().mean()
        return Verdict(bool(same == 1), f"{100 * same:.4g} % of codes the same, {len(expected.unique())} in use")

    return judge


if __name__ == "__main__":
    run("sampling", sections, rounds=7)
