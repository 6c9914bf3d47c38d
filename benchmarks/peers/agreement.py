"""Whether contestants compute the same thing; one that is fast and wrong is worthless.

A judge is made from a contestant that is trusted, and gives a verdict on any other: equal to rounding where both draw
the same numbers from one seed, equal in the mean within Monte Carlo error elsewhere, its resolution said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["StepJudge", "Verdict", "worst_distance"]

ROUNDING = 1e-4
"""Relative difference, in norm, of two float32 gradients that is put down to rounding."""
LEARNS = 0.2, 1.5
"""What the loss falls by in a few steps of Adam, over that of as many trusted steps: noisy estimators learn slower; no
updates, or twice as many, are outside."""


@dataclass(frozen=True)
class Verdict:
    agrees: bool
    text: str


class StepJudge:
    """Judges training steps by the gradient at the initial parameters, and by what the loss falls by in 20 steps.

    The gradient is compared along the mean of the trusted gradient, tensor by tensor and as a whole.

    Arguments:
        trusted: has `gradient()`, `parameters()` and `step()`, as every contestant.
        sizes: of the parameters, in their order.
        evaluate: the loss at parameters (P,), from the same noise at every call.
        replicates: gradients drawn of each contestant.
    """

    def __init__(
        self, trusted: Any, sizes: list[int], evaluate: Callable[[Tensor], float], replicates: int = 50, steps: int = 20
    ) -> None:
        self.sizes, self.evaluate, self.replicates, self.steps = sizes, evaluate, replicates, steps
        self.first = first_gradient(trusted)
        torch.manual_seed(1)
        self.direction = sum(trusted.gradient() for _ in range(replicates)) / replicates  # (P,)
        self.along = self._project(trusted, seed=2)  # (R, S)
        self.fall = self._fall(trusted)

    def __call__(self, contestant: Any) -> Verdict:
        gradient = self._gradient(contestant)
        if not gradient.agrees:
            return gradient
        fall = self._fall(contestant)
        if not LEARNS[0] * self.fall < fall < LEARNS[1] * self.fall:
            return Verdict(False, f"in {self.steps} steps the loss falls by {fall:.3g}, not by {self.fall:.3g}")
        return gradient

    def _gradient(self, contestant: Any) -> Verdict:
        apart = (first_gradient(contestant) - self.first).norm() / self.first.norm()
        if apart < ROUNDING:
            return Verdict(True, "equal")
        distance, limit, resolution = worst_distance(self._project(contestant, seed=3), self.along)
        if not distance < limit:
            return Verdict(False, f"its gradient is {distance:.1f} standard errors off, at most {limit:.1f} are chance")
        return Verdict(True, f"to {100 * resolution:.0f} %")

    def _project(self, contestant: Any, seed: int) -> Tensor:
        """Each of other draws, or they would be correlated: building a contestant may have seeded torch."""
        torch.manual_seed(seed)
        rows = []
        for _ in range(self.replicates):
            parts = (contestant.gradient().to(self.direction.device) * self.direction).double().split(self.sizes)
            along = torch.stack([part.sum() for part in parts])
            rows.append(torch.cat([along, along.sum().unsqueeze(0)]))
        return torch.stack(rows).cpu()

    def _fall(self, contestant: Any) -> float:
        before = self.evaluate(contestant.parameters())
        for _ in range(self.steps):
            contestant.step()
        return before - self.evaluate(contestant.parameters())


def first_gradient(contestant: Any) -> Tensor:
    """The one that follows seed 0, on the CPU; Pyro's and the library's checks of a first batch are done before."""
    contestant.gradient()
    torch.manual_seed(0)
    return contestant.gradient().cpu()


def worst_distance(theirs: Tensor, trusted: Tensor, false_alarm: float = 1e-4) -> tuple[float, float, float]:
    """The largest distance of two means over rows (R, S), in standard errors.

    Returns it with what it passes by chance at a probability of `false_alarm`, and the relative error of the last
    column's mean that would just be seen.
    """
    from scipy.stats import t

    R, S = trusted.shape
    floor = 1e-5 * trusted.mean(0).abs()  # of rounding
    error = (theirs.var(0) / len(theirs) + trusted.var(0) / R + floor.square()).sqrt()
    limit = float(t.isf(false_alarm / (2 * S), min(R, len(theirs)) - 1))
    distance = ((theirs.mean(0) - trusted.mean(0)).abs() / error).max()
    return float(distance), limit, float(limit * error[-1] / trusted.mean(0)[-1].abs())
