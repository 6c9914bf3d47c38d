"""Posteriors of one code given the encoder's vector: modules to be called with z (..., D) and codes (K, D).

NearestCode      all mass at the nearest code
StochasticCodes    by distance, at a temperature that is learned or fixed
AnnealedCodes      by distance, at a temperature that falls from step to step
codes_by_distance  by distance, at a temperature in the spacing of the codes
"""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.code_categorical import CodeCategorical

__all__ = ["AnnealedCodes", "StochasticCodes", "codes_by_distance"]


class StochasticCodes(nn.Module):
    """q(k) proportional to exp(-|z - e_k|^2 / 2T), T learned or fixed.

    Arguments:
        temperature: T, at the start where it is learned, above 0.
        learned: whether T is a parameter (its logarithm).

    Raises:
        ValueError: the temperature is not above 0.

    Example:
        >>> StochasticCodes(0.5)(torch.zeros(7, 3), torch.randn(5, 3)).event_shape
        torch.Size([5])

    References:
        Takida et al., SQ-VAE: variational Bayes on discrete representation with self-annealed stochastic quantization,
        2022, arXiv:2205.07547
    """

    log_temperature: Tensor

    def __init__(self, temperature: float = 0.5, learned: bool = True) -> None:
        super().__init__()
        start = torch.tensor(math.log(_require_positive("StochasticCodes", "temperature", temperature)))
        if learned:
            self.log_temperature = nn.Parameter(start)
        else:
            self.register_buffer("log_temperature", start)

    def forward(self, z: Tensor, codes: Tensor) -> dist.TorchDistribution:
        return CodeCategorical(z, codes, self.log_temperature.exp())


class AnnealedCodes(nn.Module):
    """q(k) proportional to exp(-|z - e_k|^2 / 2T), T falling geometrically from `start` to `end`.

    Arguments:
        start, end: of T, above 0.
        steps: of training in which it falls; it is `end` afterwards.

    Raises:
        ValueError: start or end is not above 0, or steps below 1.

    Example:
        >>> posterior = AnnealedCodes(1.0, 0.01, steps=2)
        >>> posterior.after_step(lambda tensor: tensor)
        >>> posterior.temperature
        tensor(0.1000)
    """

    taken: Tensor

    def __init__(self, start: float = 1.0, end: float = 0.01, steps: int = 1000) -> None:
        super().__init__()
        for name, value in (("start", start), ("end", end), ("steps", steps)):
            _require_positive("AnnealedCodes", name, value)
        self.start, self.end, self.steps = start, end, steps
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    @property
    def temperature(self) -> Tensor:
        """T at this step, ()."""
        share = (self.taken / self.steps).clamp(max=1)
        return self.start * (self.end / self.start) ** share

    def after_step(self, all_rows: Callable[[Tensor], Tensor]) -> None:
        """Count a step of training."""
        self.taken += 1

    def forward(self, z: Tensor, codes: Tensor) -> dist.TorchDistribution:
        return CodeCategorical(z, codes, self.temperature.to(z))


def codes_by_distance(z: Tensor, codes: Tensor, temperature: float) -> dist.TorchDistribution:
    """q(k) proportional to exp(-|z - e_k|^2 / 2 T s), where s is the mean squared distance of codes to their nearest.

    Arguments:
        z: (..., D).
        codes: e, (K, D).
        temperature: T, above 0, in units of s: 0.1 takes the nearest code nearly always, 1 its neighbours too.

    Example:
        >>> codes_by_distance(torch.zeros(7, 3), torch.randn(5, 3), temperature=0.1).event_shape
        torch.Size([5])
    """
    square = torch.cdist(codes, codes).square()
    square = square.masked_fill(torch.eye(len(codes), dtype=torch.bool, device=codes.device), math.inf)
    spacing = square.min(-1).values.mean().clamp(min=torch.finfo(codes.dtype).tiny ** 0.5)
    return CodeCategorical(z, codes, temperature * spacing)


def _require_positive(name: str, word: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name}: {word} must be a number above 0, got {value!r}")
    return value
