"""Likelihoods of flattened data, by name: what the decoder's outputs mean, and the bias from which they start.

bernoulli               data in {0, 1}
gaussian                real data, one learned scale
"""

from abc import ABC, abstractmethod

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.programs.parts import bernoulli, gaussian

__all__ = ["BernoulliOutputs", "GaussianOutputs", "Likelihood", "likelihood_named", "start_at"]


class Likelihood(nn.Module, ABC):
    """Maps a decoder's outputs (..., output_size) to a distribution of one flattened datum, event (D,).

    Arguments:
        data_size: D.
    """

    def __init__(self, data_size: int) -> None:
        super().__init__()
        self.data_size = data_size

    @property
    def output_size(self) -> int:
        """Numbers that the decoder gives for one datum."""
        return self.data_size

    @abstractmethod
    def forward(self, outputs: Tensor) -> dist.TorchDistribution: ...

    @abstractmethod
    def bias(self, data_mean: Tensor) -> Tensor:
        """Outputs (output_size,) of which the distribution has about the mean (D,) of the data."""


class BernoulliOutputs(Likelihood):
    """Outputs are logits of independent Bernoullis, for data in {0, 1}."""

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        return bernoulli(outputs)

    def bias(self, data_mean: Tensor) -> Tensor:
        return data_mean.clamp(0.01, 0.99).logit()


class GaussianOutputs(Likelihood):
    """Outputs are the means of normals with one learned scale, for real data."""

    def __init__(self, data_size: int) -> None:
        super().__init__(data_size)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        return gaussian(outputs, self.log_scale)

    def bias(self, data_mean: Tensor) -> Tensor:
        return data_mean


def likelihood_named(name: str, data_size: int, levels: int | None = None) -> Likelihood:
    """The likelihood of flattened data that has this name.

    Arguments:
        name: "bernoulli" or "gaussian".
        data_size: D.
        levels: of the data, values k / (levels - 1); of likelihoods of grey values only.

    Raises:
        ValueError: there is no such likelihood.

    Example:
        >>> likelihood_named("bernoulli", 4)(torch.zeros(3, 4)).event_shape
        torch.Size([4])
    """
    if name not in LIKELIHOODS:
        raise ValueError(f"likelihood must be {' or '.join(map(repr, LIKELIHOODS))}, got {name!r}")
    return LIKELIHOODS[name](data_size)


def start_at(layer: nn.Linear, likelihood: Likelihood, data_mean: Tensor | None) -> None:
    """Start the last layer of a decoder at the mean of the data, if that is known."""
    if data_mean is not None:
        with torch.no_grad():
            layer.bias.copy_(likelihood.bias(data_mean.flatten()))


LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": BernoulliOutputs, "gaussian": GaussianOutputs}
