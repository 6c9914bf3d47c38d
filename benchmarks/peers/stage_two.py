"""A step of stage two, a prior on 4x4 codes of K = 16, batch 100: as `pplvm fit` takes it, beside a loop by hand.

python -m benchmarks.peers.stage_two [--rounds 15] [--threads 2] [--device cpu] [--json FILE]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.contestants import images
from benchmarks.peers.agreement import Verdict
from benchmarks.peers.tables import Section, Target, run
from pplvm.data.counter_rng import permutation
from pplvm.data.encoded import EncodedData
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.evaluation.encoding import encode
from pplvm.graphs.compiled import Compiled, Tier
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss
from pplvm.objectives.penalized import Penalized
from pplvm.programs.over_codes import OverCodes
from pplvm.programs.vq_vae import vq_vae
from pplvm.training.run import Run
from pplvm.training.stages import train_only
from pplvm.training.stepper import Stepper

__all__ = ["HAND", "ByHand", "Problem", "section", "sections"]

HAND = "hand-written, codes as an array"
TIERS: dict[str, Tier] = {"eager": "off", "graph": "graph"}
STEPS = 5
"""After which a contestant's loss must be that of the loop by hand."""


@dataclass(frozen=True)
class Problem:
    """A program of codes in its second stage.

    Arguments:
        prior: its name.
        channels: of the convolutions of encoder and decoder, a scale each.
        num_data: images that are encoded.
        batch_size: B.
        device: "cpu" or "cuda".
    """

    prior: str
    channels: Sequence[int] = (16, 32, 64)
    num_data: int = 2000
    batch_size: int = 100
    device: str = "cpu"

    def images(self) -> Tensor:
        return images(self.num_data).reshape(-1, 1, 28, 28).to(self.device)

    def program(self) -> Any:
        """With the same weights at each call."""
        torch.manual_seed(0)
        made = vq_vae(784, num_codes=16, channels=self.channels, prior=self.prior, data_shape=(1, 28, 28))  # pyright: ignore[reportArgumentType]
        train_only(made.to(self.device), "prior")
        return made


class ByHand:
    """The loop that one writes: codes (N, positions), the prior's network, cross-entropy, Adam."""

    def __init__(self, problem: Problem) -> None:
        program = problem.program()
        self.codes = encode(program, iter(problem.images().split(500))).index.long()
        self.prior, self.size, self.number = program.prior.train(), problem.batch_size, 0
        self.optimizer = torch.optim.Adam(self.prior.parameters(), lr=1e-3, fused=True)

    def step(self) -> Tensor:
        epoch, number = divmod(self.number, len(self.codes) // self.size)
        if number == 0:
            self.order = permutation(len(self.codes), 0, epoch)
        self.number += 1
        codes = self.codes[self.order[number * self.size : (number + 1) * self.size]]
        logits = self.prior.network(one_hot(codes, 16).float())
        loss = cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="sum") / self.size
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Ours:
    """The steps of `pplvm fit`, whose loss has the distortion beside the rate.

    Arguments:
        tier: of the loss.
        is_encoded: whether codes are computed once, and not in every step.
    """

    def __init__(self, problem: Problem, tier: Tier, is_encoded: bool = True) -> None:
        whole: Any = problem.program()
        data, program = ImageData(problem.images(), "images", levels=2), whole
        found = encode(whole, iter(problem.images().split(500)))
        if is_encoded:
            program = OverCodes(whole, found.sites, found.penalties)
            data = EncodedData(data, found.index, found.terms)
        self.log_p, self.order = found.terms[:, 0], Epochs(data, problem.batch_size)
        loss = Loss(Penalized(BiasedPathwise(), whole.default_penalties), program)
        optimizer = torch.optim.Adam(whole.prior.parameters(), lr=1e-3, fused=True)
        self.run = Run(Stepper(Compiled(loss, tier), optimizer), self.order)

    def step(self) -> Tensor:
        return self.run.advance().loss

    def rate(self) -> Tensor:
        """The loss of a step, without the distortion of its batch."""
        loss = self.step()
        return loss + self.log_p[self.order.last_rows].mean()


def sections(device: str) -> Iterator[Section]:
    for prior in ("pixelcnn", "transformer"):
        targets = [Target("ours, graph", 1.1, HAND)]
        yield section(f"{prior}, codes 4x4 of 16, B = 100", Problem(prior, device=device), targets)


def section(title: str, problem: Problem, targets: Sequence[Target] = ()) -> Section:
    contestants: dict[str, Callable[[], Any]] = {
        HAND: partial(ByHand, problem),
        **{f"ours, {name}": partial(Ours, problem, tier) for name, tier in TIERS.items()},
        "ours, graph, encoding in every step": partial(Ours, problem, "graph", False),
    }
    return Section(title, contestants, judge_of(problem), targets, inner=3)


def judge_of(problem: Problem) -> Callable[[str, Any], Verdict]:
    """The loss after some steps on the same batches must be that of the loop by hand; dropout must not differ."""

    @cache
    def trusted() -> float:
        hand = ByHand(problem)
        return float([hand.step() for _ in range(STEPS)][-1])

    def judge(name: str, contestant: Any) -> Verdict:
        measured = [contestant.rate() if isinstance(contestant, Ours) else contestant.step() for _ in range(STEPS)]
        apart = abs(float(measured[-1]) - trusted()) / abs(trusted())
        return Verdict(apart < 1e-4, f"loss after {STEPS} steps to {apart:.0e}")

    return judge


if __name__ == "__main__":
    run("stage_two", sections, rounds=15)
