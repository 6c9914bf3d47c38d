"""The variational autoencoder of dense networks."""

from collections.abc import Sequence
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.networks.dense import MLP
from pplvm.programs.autoencoder import Autoencoder
from pplvm.programs.parts import bernoulli, diagonal_normal, gaussian

__all__ = ["VAE"]

ACTIVATIONS = {"softplus": nn.Softplus, "tanh": nn.Tanh}


class VAE(Autoencoder):
    """p(z) = N(0, I), p(x | z) = Bernoulli or N(decoder(z), scale^2), q(z | x) = N(encoder(x)).

    `ComposedVAE` takes any other encoder, decoder, prior, posterior and likelihood.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z.
        hidden_sizes: of the encoder; the decoder has them in reverse.
        likelihood: "bernoulli" for data in {0, 1}, "gaussian" (one learned scale) for real data.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        activation: of the hidden layers, "softplus" or "tanh" (Burda et al.: hidden_sizes 200 and 200, Z = 50).

    Raises:
        ValueError: likelihood or activation has another name.

    References:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114
        Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519
    """

    zeros: Tensor

    def __init__(
        self,
        data_size: int,
        latent_size: int = 16,
        hidden_sizes: Sequence[int] = (200,),
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        data_mean: Tensor | None = None,
        activation: Literal["softplus", "tanh"] = "softplus",
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"VAE: likelihood must be 'bernoulli' or 'gaussian', got {likelihood!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"VAE: activation must be 'softplus' or 'tanh', got {activation!r}")
        self.likelihood = likelihood
        self.encoder = MLP(data_size, 2 * latent_size, hidden_sizes, ACTIVATIONS[activation])
        self.decoder = MLP(latent_size, data_size, hidden_sizes[::-1], ACTIVATIONS[activation])
        if likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("zeros", torch.zeros(latent_size))
        if data_mean is not None:
            start = data_mean.clamp(0.01, 0.99).logit() if likelihood == "bernoulli" else data_mean
            with torch.no_grad():
                self.decoder.last.bias.copy_(start.flatten())

    def model(self, x: Tensor) -> None:
        super().model(x.flatten(1))

    def guide(self, x: Tensor) -> None:
        super().guide(x.flatten(1))

    def _prior(self) -> dist.TorchDistribution:
        return dist.Normal(self.zeros, 1.0).to_event(1)

    def _likelihood(self, z: Tensor) -> dist.TorchDistribution:
        return LIKELIHOODS[self.likelihood](self, self.decoder(z))

    def _posterior(self, x: Tensor) -> dist.TorchDistribution:
        return diagonal_normal(self.encoder(x))


def _bernoulli(program: VAE, logits: Tensor) -> dist.TorchDistribution:
    return bernoulli(logits)


def _gaussian(program: VAE, mean: Tensor) -> dist.TorchDistribution:
    return gaussian(mean, program.log_scale)


LIKELIHOODS = {"bernoulli": _bernoulli, "gaussian": _gaussian}
