"""Mean and total variance of replicate gradients, however a contestant draws them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AT_A_TIME", "Moments", "Replicates", "moments_of"]

AT_A_TIME = 1000
"""Replicates in a timed step."""


@dataclass(frozen=True)
class Moments:
    """Of some replicates: the mean gradient per datum (P,), and the trace of the covariance."""

    mean: Tensor
    variance: float


@dataclass(frozen=True)
class Replicates:
    """Moments of so many replicates, `chunk` at a time."""

    moments: Callable[[int], Moments]
    chunk: int = 1
    plan: str = ""

    def step(self) -> Moments:
        return self.moments(AT_A_TIME)


def moments_of(total: Sequence[Tensor], squares: float, replicates: int) -> Moments:
    mean = torch.cat([t.detach().flatten() for t in total]).double() / replicates
    return Moments(mean.cpu(), (squares - replicates * float(mean.square().sum())) / (replicates - 1))
