"""Probabilistic principal component analysis: linear, Gaussian, with exact log p(x)."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

__all__ = ["ProbabilisticPCA"]


class ProbabilisticPCA(nn.Module):
    """p(z) = N(0, I), p(x | z) = N(W z + mu, sigma^2 I), q(z | x) = N(A (x - mean) + a, L L^T).

    L is one lower triangle for all data, as that of the exact posterior is: the guide can reach it.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z.
        data_mean: (D,), the mean of the training data, which centres the guide's input and from which mu starts.

    Example:
        >>> program = ProbabilisticPCA(data_size=5, latent_size=2).at_posterior()
        >>> program.log_evidence(torch.zeros(3, 5)).shape
        torch.Size([3])

    References:
        Tipping and Bishop, Probabilistic principal component analysis, 1999
    """

    zeros: Tensor
    eye: Tensor
    centre: Tensor

    def __init__(self, data_size: int, latent_size: int = 2, data_mean: Tensor | None = None) -> None:
        super().__init__()
        self.decoder = nn.Linear(latent_size, data_size)  # W, mu
        self.encoder = nn.Linear(data_size, latent_size)  # A, a
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.guide_tril = nn.Parameter(torch.zeros(latent_size, latent_size))  # L, the logarithm of its diagonal
        self.register_buffer("zeros", torch.zeros(latent_size))
        self.register_buffer("eye", torch.eye(latent_size))
        mean = torch.zeros(data_size) if data_mean is None else data_mean.flatten()
        self.register_buffer("centre", mean.to(self.log_scale.device))
        with torch.no_grad():
            self.decoder.bias.copy_(self.centre)

    def model(self, x: Tensor) -> None:
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(self.zeros, scale_tril=self.eye))  # (K, B, Z)
            pyro.sample("x", dist.Normal(self.decoder(z), self.log_scale.exp()).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        loc = self.encoder(x.flatten(1) - self.centre)
        scale_tril = self.guide_tril.tril(-1) + self.guide_tril.diagonal().exp().diag()
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=scale_tril))

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; mu, W W^T + sigma^2 I), (B,) in nats, in float64."""
        W, mu = self.decoder.weight.double(), self.decoder.bias.double()
        variance = (2 * self.log_scale.double()).exp().expand(len(mu))
        return LowRankMultivariateNormal(mu, W, variance, validate_args=False).log_prob(x.flatten(1).double())

    @torch.no_grad()
    def at_posterior(self) -> "ProbabilisticPCA":
        """Set the guide to the exact posterior of the present model; returns the program.

        N(M^-1 W^T (x - mu), sigma^2 M^-1),     M = W^T W + sigma^2 I
        """
        W, mu, variance = self.decoder.weight.double(), self.decoder.bias.double(), (2 * self.log_scale.double()).exp()
        inverse = torch.linalg.inv(W.T @ W + variance * self.eye.double())
        scale_tril = torch.linalg.cholesky(variance * inverse)
        self.encoder.weight.copy_(inverse @ W.T)
        self.encoder.bias.copy_(inverse @ W.T @ (self.centre - mu))
        self.guide_tril.copy_(scale_tril.tril(-1) + scale_tril.diagonal().log().diag())
        return self
