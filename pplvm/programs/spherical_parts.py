"""Priors and posteriors on the unit sphere, for variational autoencoders."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.spherical_uniform import SphericalUniform, require_dimension

__all__ = ["SphericalPosterior", "SphericalUniformPrior"]

START, LOG_BOUND = 10.0, 5.0
"""A learned concentration starts at 10 d, where x still matters, and stays within a factor exp(5) = 148 of it."""


class SphericalUniformPrior(nn.Module):
    """The uniform prior on the unit sphere.

    Arguments:
        latent_size: d, the length of z, at least 2.

    Raises:
        ValueError: latent_size is less than 2.
    """

    zeros: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(require_dimension(latent_size, type(self).__name__)))

    def forward(self) -> dist.TorchDistribution:
        return SphericalUniform(len(self.zeros), dtype=self.zeros.dtype, device=self.zeros.device)


class SphericalPosterior(nn.Module):
    """A posterior on the unit sphere whose mean direction a network gives.

        q(z | x) = family(m / |m|, kappa),   m = network(x)

    Arguments:
        network: x (B, ...) to m (B, d), or to m and one number more, (B, d + 1), where the concentration is learned.
        concentration: kappa, the same for all x; None to learn it for each, kappa = 10 d exp(5 tanh(number / 5)).
        family: of a direction (..., d) and a concentration (...), `PowerSpherical` or `VonMisesFisher`.

    Raises:
        ValueError: concentration is not positive, or family no class or function.

    Example:
        >>> q = SphericalPosterior(nn.Linear(6, 3), concentration=20.0)
        >>> q(torch.zeros(4, 6)).sample().norm(dim=-1).round(decimals=4).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        network: nn.Module,
        concentration: float | None,
        family: Callable[[Tensor, Tensor], dist.TorchDistribution] = PowerSpherical,
    ) -> None:
        super().__init__()
        if concentration is not None and not concentration > 0:
            raise ValueError(
                f"SphericalPosterior: concentration (kappa) must be positive, got {concentration}: at 0 the posterior "
                "is the prior, whatever x is; give None to learn it"
            )
        if not callable(family):
            raise ValueError(
                f"SphericalPosterior: the family of posteriors must be a class such as PowerSpherical or "
                f"VonMisesFisher, got {family!r}: give it in Python, in a function that makes the program"
            )
        self.network, self.concentration, self.family = network, concentration, family

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        found = self.network(x)
        if self.concentration is not None:
            return self.family(_direction(found), found.new_full(found.shape[:-1], self.concentration))
        m, number = found[..., :-1], found[..., -1]
        kappa = START * m.shape[-1] * (LOG_BOUND * torch.tanh(number / LOG_BOUND)).exp()
        return self.family(_direction(m), kappa)


def _direction(m: Tensor) -> Tensor:
    return m / m.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(m.dtype).tiny)
