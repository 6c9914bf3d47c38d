"""The state of annealing chains: latents, and the log-densities of start and joint there."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Point"]


@dataclass(frozen=True)
class Point:
    """The latents of K chains and their log-densities, with the Jacobian of continuous latents."""

    free: Tensor  # (K, n), n may be 0
    states: dict[str, Tensor]  # by discrete site, numbers of states (K, coordinates)
    log_start: Tensor  # (K,), float64
    log_joint: Tensor  # (K,), float64
    slopes: tuple[Tensor, Tensor] | None = None  # gradients of both by free, each (K, n)

    @property
    def log_ratio(self) -> Tensor:
        return self.log_joint - self.log_start  # (K,)

    def log_density(self, beta: float) -> Tensor:
        return (1 - beta) * self.log_start + beta * self.log_joint  # (K,)

    def slope(self, beta: float) -> Tensor:
        assert self.slopes is not None
        return (1 - beta) * self.slopes[0] + beta * self.slopes[1]  # (K, n)

    def rows(self, chosen: Tensor) -> "Point":
        """The chains at these indices, without gradients."""
        states = {name: states[chosen] for name, states in self.states.items()}
        return Point(self.free[chosen], states, self.log_start[chosen], self.log_joint[chosen])

    def where(self, chosen: Tensor, other: "Point") -> "Point":
        """This point in the chains that a mask (K,) selects, the other point in the rest."""
        slopes = None
        if self.slopes is not None and other.slopes is not None:
            first, second = (_pick(chosen, a, b) for a, b in zip(self.slopes, other.slopes, strict=True))
            slopes = (first, second)
        return Point(
            _pick(chosen, self.free, other.free),
            {name: _pick(chosen, states, other.states[name]) for name, states in self.states.items()},
            _pick(chosen, self.log_start, other.log_start),
            _pick(chosen, self.log_joint, other.log_joint),
            slopes,
        )


def _pick(chosen: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (first.dim() - 1)), first, second)
