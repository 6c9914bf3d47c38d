"""Likelihoods of flattened data, by name: what the decoder's outputs mean, and the bias from which they start.

bernoulli               data in {0, 1}
gaussian                real data, one learned scale
discretized-logistic    grey data k / (levels - 1), a mixture for each value
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.discretized_logistic import require_levels
from pplvm.distributions.discretized_logistic_mixture import DiscretizedLogisticMixture
from pplvm.programs.parts import bernoulli, gaussian

__all__ = [
    "BernoulliOutputs",
    "DiscretizedLogisticOutputs",
    "GaussianOutputs",
    "Likelihood",
    "likelihood_named",
    "loc_and_scale",
    "start_at",
]

LOG_SCALE_BOUND = 7.0
"""Log scales of discretized logistics keep within this of that of an eighth of the range (PixelCNN++: -7 at least)."""


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


class DiscretizedLogisticOutputs(Likelihood):
    """Outputs are mixtures of M discretized logistics, for grey data k / (levels - 1).

    For each value M logits, then M means from 0 to 1, as the data, with outputs in half ranges from mid grey, then M
    log scales.

    Arguments:
        data_size: D.
        levels: L of the data, at least 2.
        num_components: M.

    Raises:
        ValueError: levels is not given, or less than 2; num_components is not positive.

    Example:
        >>> likelihood = DiscretizedLogisticOutputs(4, levels=17)
        >>> likelihood.output_size, likelihood(torch.zeros(3, 36)).sample().shape
        (36, torch.Size([3, 4]))

    References:
        Salimans, Karpathy, Chen and Kingma, PixelCNN++, 2017, arXiv:1701.05517
    """

    def __init__(self, data_size: int, levels: int | None, num_components: int = 3) -> None:
        super().__init__(data_size)
        if levels is None:
            raise ValueError(
                "likelihood 'discretized-logistic' is one of grey values k / (levels - 1), and levels is not known: "
                "give levels (--levels 256 of data from a file), or use 'gaussian' for real data"
            )
        if num_components < 1:
            raise ValueError(
                f"likelihood 'discretized-logistic': num_components must be positive, got {num_components}"
            )
        self.levels = require_levels(levels, "likelihood 'discretized-logistic'")
        self.num_components = num_components

    @property
    def output_size(self) -> int:
        return 3 * self.num_components * self.data_size

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        logits, loc, log_scale = outputs.unflatten(-1, (3, self.data_size, self.num_components)).unbind(-3)
        return DiscretizedLogisticMixture(logits, *loc_and_scale(loc, log_scale, self.levels), self.levels).to_event(1)

    def bias(self, data_mean: Tensor) -> Tensor:
        """Components side by side about the mean, over the deviation of data in {0, 1}, the greatest that there is."""
        mean = data_mean.clamp(0.01, 0.99)[:, None]  # (D, 1)
        deviation, M = (mean * (1 - mean)).sqrt(), self.num_components
        places = (torch.arange(M, dtype=mean.dtype, device=mean.device) - (M - 1) / 2) / M  # within half a unit
        loc = 2 * (mean + deviation * places) - 1  # (D, M)
        log_scale = (8 * deviation / 4).log().expand_as(loc)
        return torch.stack([torch.zeros_like(loc), loc, log_scale]).flatten()


def likelihood_named(name: str, data_size: int, levels: int | None = None) -> Likelihood:
    """The likelihood of flattened data that has this name.

    Arguments:
        name: "bernoulli", "gaussian" or "discretized-logistic".
        data_size: D.
        levels: of the data, values k / (levels - 1); "discretized-logistic" needs it, the others do not read it.

    Raises:
        ValueError: there is no such likelihood, or it needs levels that are not given.

    Example:
        >>> likelihood_named("bernoulli", 4)(torch.zeros(3, 4)).event_shape
        torch.Size([4])
    """
    if name not in LIKELIHOODS:
        raise ValueError(f"likelihood must be {' or '.join(map(repr, LIKELIHOODS))}, got {name!r}")
    return LIKELIHOODS[name](data_size, levels)


def loc_and_scale(loc: Tensor, log_scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Means and scales of discretized logistics, in levels, of a network's outputs.

    Arguments:
        loc: in half ranges from mid grey: the data lie within -1 and 1.
        log_scale: relative to an eighth of the range, bounded smoothly by `LOG_SCALE_BOUND`.
        levels: L.
    """
    bounded = LOG_SCALE_BOUND * (log_scale / LOG_SCALE_BOUND).tanh()
    return (levels - 1) * (1 + loc) / 2, (levels - 1) / 8 * bounded.exp()


def start_at(layer: nn.Linear, likelihood: Likelihood, data_mean: Tensor | None) -> None:
    """Start the last layer of a decoder at the mean of the data, if that is known."""
    if data_mean is not None:
        with torch.no_grad():
            layer.bias.copy_(likelihood.bias(data_mean.flatten()))


LIKELIHOODS: dict[str, Callable[[int, int | None], Likelihood]] = {
    "bernoulli": lambda data_size, levels: BernoulliOutputs(data_size),
    "gaussian": lambda data_size, levels: GaussianOutputs(data_size),
    "discretized-logistic": DiscretizedLogisticOutputs,
}
