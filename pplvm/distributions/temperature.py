"""Distributions at a temperature, for samples: deviations of normal ones scaled, logits of categorical ones divided.

N(loc, scale^2)      becomes N(loc, (T scale)^2), coordinate by coordinate or jointly
softmax(logits)      becomes softmax(logits / T), of categories and one-hot vectors
flow of a base       becomes the same flow of the base at T
point mass           stays as it is
"""

from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch.distributions as torchs
from pyro.distributions.torch_distribution import ExpandedDistribution

__all__ = ["at_temperature"]


@singledispatch
def at_temperature(fn: Any, temperature: float) -> Any:
    """A distribution with less noise, or more: a normal or categorical one, what is made of them, or one of your own.

    Another distribution takes part by a method `at_temperature(temperature)` that returns it with its noise scaled.

    Arguments:
        fn: a Pyro distribution.
        temperature: T, by which standard deviations are multiplied and logits of categories divided; above 0.

    Raises:
        ValueError: it is not defined for this distribution (bits and counts, spheres, mixtures).

    Example:
        >>> at_temperature(dist.Normal(1.0, 2.0), 0.5).scale
        tensor(1.)
        >>> import torch
        >>> at_temperature(dist.OneHotCategorical(torch.tensor([0.2, 0.8])), 0.5).probs  # 1 to 4 becomes 1 to 16
        tensor([0.0588, 0.9412])

    References:
        Ackley, Hinton and Sejnowski, A learning algorithm for Boltzmann machines, 1985 (categories)
        Kingma and Dhariwal, Glow, 2018, arXiv:1807.03039, section 6 (flows)
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898
    """
    if hasattr(fn, "at_temperature"):
        return fn.at_temperature(temperature)
    raise ValueError(
        "a temperature scales the standard deviation of normal distributions and divides the logits of categorical "
        f"ones, and {type(fn).__name__} is neither"
    )


@at_temperature.register
def _(fn: torchs.Normal, temperature: float) -> Any:
    return dist.Normal(fn.loc, temperature * fn.scale)


@at_temperature.register
def _(fn: torchs.MultivariateNormal, temperature: float) -> Any:
    return dist.MultivariateNormal(fn.loc, scale_tril=temperature * fn.scale_tril)


@at_temperature.register
def _(fn: torchs.LowRankMultivariateNormal, temperature: float) -> Any:
    return dist.LowRankMultivariateNormal(fn.loc, temperature * fn.cov_factor, temperature**2 * fn.cov_diag)


@at_temperature.register
def _(fn: torchs.Categorical, temperature: float) -> Any:
    return dist.Categorical(logits=fn.logits / temperature)


@at_temperature.register
def _(fn: torchs.OneHotCategorical, temperature: float) -> Any:
    return dist.OneHotCategorical(logits=fn.logits / temperature)


@at_temperature.register
def _(fn: torchs.Independent, temperature: float) -> Any:
    return at_temperature(fn.base_dist, temperature).to_event(fn.reinterpreted_batch_ndims)


@at_temperature.register
def _(fn: ExpandedDistribution, temperature: float) -> Any:
    return at_temperature(fn.base_dist, temperature).expand(fn.batch_shape)


@at_temperature.register
def _(fn: dist.MaskedDistribution, temperature: float) -> Any:
    return at_temperature(fn.base_dist, temperature).mask(fn._mask)


@at_temperature.register
def _(fn: torchs.TransformedDistribution, temperature: float) -> Any:
    return dist.TransformedDistribution(at_temperature(fn.base_dist, temperature), fn.transforms)


@at_temperature.register
def _(fn: dist.Delta, temperature: float) -> Any:
    return fn
