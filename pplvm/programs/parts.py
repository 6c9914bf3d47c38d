"""Priors, posteriors and likelihoods of variational autoencoders, which stand between their networks."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

__all__ = ["GaussianLikelihood", "StandardNormal", "bernoulli", "diagonal_normal", "gaussian"]


class StandardNormal(nn.Module):
    """p(z) = N(0, I), a prior.

    Arguments:
        latent_size: Z.
    """

    zeros: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_size))

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.zeros, 1.0).to_event(1)


def diagonal_normal(parameters: Tensor) -> dist.TorchDistribution:
    """The posterior N(loc, diag(scale^2)) of (..., 2 Z) outputs, loc and then log scale."""
    loc, log_scale = parameters.chunk(2, dim=-1)
    return dist.Normal(loc, log_scale.exp()).to_event(1)


def bernoulli(logits: Tensor, event_dim: int = 1) -> dist.TorchDistribution:
    """Independent Bernoullis with these logits, a likelihood for data in {0, 1}.

    Arguments:
        logits: (..., *shape of one datum).
        event_dim: dimensions of one datum: 1 if flattened, 3 for images (C, H, W): `partial(bernoulli, event_dim=3)`.
    """
    return dist.Bernoulli(logits=logits).to_event(event_dim)


def gaussian(mean: Tensor, log_scale: Tensor, event_dim: int = 1) -> dist.TorchDistribution:
    """N(mean, scale^2), a likelihood for real data; mean and event_dim as for `bernoulli`."""
    return dist.Normal(mean, log_scale.exp()).to_event(event_dim)


class GaussianLikelihood(nn.Module):
    """N(mean, scale^2 I) with one learned scale, a likelihood for real data.

    Arguments:
        event_dim: dimensions of one datum, as of `bernoulli`.
    """

    def __init__(self, event_dim: int = 1) -> None:
        super().__init__()
        self.event_dim = event_dim
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, mean: Tensor) -> dist.TorchDistribution:
        return gaussian(mean, self.log_scale, self.event_dim)
