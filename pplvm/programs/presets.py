"""Variational autoencoders that are composed of parts by name: functions of what the data know, and of sizes."""

from collections.abc import Callable, Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.networks.dense import MLP
from pplvm.programs.autoencoder import ComposedVAE
from pplvm.programs.parts import GaussianLikelihood, StandardNormal, bernoulli

__all__ = ["bernoulli_vae", "gaussian_vae"]


def bernoulli_vae(
    data_size: int, latent_size: int = 16, hidden_sizes: Sequence[int] = (200,), data_mean: Tensor | None = None
) -> ComposedVAE:
    """Dense networks, softplus, under a Bernoulli likelihood; data_mean (D,) starts the decoder's bias."""
    start = None if data_mean is None else data_mean.clamp(0.01, 0.99).logit()
    return _dense(data_size, latent_size, hidden_sizes, bernoulli, start)


def gaussian_vae(
    data_size: int, latent_size: int = 16, hidden_sizes: Sequence[int] = (200,), data_mean: Tensor | None = None
) -> ComposedVAE:
    """Dense networks, softplus, under a Gaussian of one learned scale; data_mean (D,) starts the decoder's bias."""
    return _dense(data_size, latent_size, hidden_sizes, GaussianLikelihood(), data_mean)


def _dense(
    data_size: int,
    latent_size: int,
    hidden_sizes: Sequence[int],
    likelihood: Callable[[Tensor], dist.TorchDistribution],
    start: Tensor | None,
) -> ComposedVAE:
    encoder = MLP(data_size, 2 * latent_size, hidden_sizes, nn.Softplus)
    decoder = MLP(latent_size, data_size, hidden_sizes[::-1], nn.Softplus)
    if start is not None:
        with torch.no_grad():
            decoder.last.bias.copy_(start.flatten())
    return ComposedVAE(nn.Sequential(nn.Flatten(1), encoder), decoder, likelihood, StandardNormal(latent_size))
