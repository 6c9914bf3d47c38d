"""A variational autoencoder whose rate has a floor: an autoregressive prior that independent posteriors cannot match.

p(z) = AR(1) of n steps,   q(z | x) = N(loc(x), diag(scale(x)^2)),   KL(q || p) >= delta > 0 whatever the data
"""

from collections.abc import Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.autoregressive_gaussian import AutoregressiveGaussian, least_divergence
from pplvm.networks.dense import MLP
from pplvm.programs.dense_networks import dense_decoder
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_dense_sizes

__all__ = ["DeltaVAE"]


class DeltaVAE(nn.Module):
    """The delta-VAE: latents z (n, d), a chain of each coordinate in the prior, independent normals in the guide.

        delta = 1/2 sum_d [ (n - 2) log(1 + alpha_d^2) - log(1 - alpha_d^2) ]  <=  KL(q(z | x) || p(z))

    The floor holds for whatever means and scales the encoder gives, so that neither is limited, and the latents cannot
    collapse. With Z = n d.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z, a multiple of the length.
        hidden_sizes: of the dense encoder; the dense decoder has them in reverse.
        likelihood: a name of `pplvm.programs.likelihoods`.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        levels: of the data, for likelihoods of grey values.
        alpha: the correlation of neighbours, in (0, 1), one for all d coordinates or one for each; spread evenly over
            (0, 1) unless given, (i + 1/2) / d.
        length: n, at least 2: of one step there is no floor.

    Raises:
        ValueError: alpha lies outside (0, 1) or is of another number; latent_size is no multiple of the length, or the
            length below 2; there is no such likelihood.

    Example:
        >>> program = DeltaVAE(data_size=6, latent_size=6, hidden_sizes=(5,), alpha=0.5, length=3)
        >>> round(program.minimum_rate(), 4)  # nats
        0.5108

    References:
        Razavi, van den Oord, Poole and Vinyals, Preventing posterior collapse with delta-VAEs, 2019, arXiv:1901.03416
    """

    alpha: Tensor

    def __init__(
        self,
        data_size: int,
        latent_size: int = 16,
        hidden_sizes: Sequence[int] = (200,),
        likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
        data_mean: Tensor | None = None,
        levels: int | None = None,
        alpha: float | Sequence[float] | None = None,
        length: int = 4,
    ) -> None:
        super().__init__()
        require_dense_sizes("DeltaVAE", latent_size, hidden_sizes)
        if length < 2:
            raise ValueError(f"DeltaVAE: length must be at least 2, got {length}: one step alone can match its prior")
        if latent_size < 1 or latent_size % length:
            raise ValueError(
                f"DeltaVAE: latent_size must be a multiple of length, {length} steps of d numbers, got {latent_size}"
            )
        self.length = length
        self.register_buffer("alpha", torch.tensor(_correlations(alpha, latent_size // length)))
        self.likelihood = likelihood_named(likelihood, data_size, levels)
        self.encoder = MLP(data_size, 2 * latent_size, hidden_sizes, nn.ELU)
        self.decoder = dense_decoder(latent_size, self.likelihood, hidden_sizes, "elu", data_mean)

    def minimum_rate(self) -> float:
        """The floor delta of the rate KL(q(z | x) || p(z)) of every datum, in nats."""
        return float(least_divergence(self.alpha.double(), self.length))

    def model(self, x: Tensor) -> None:
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", AutoregressiveGaussian(self.alpha, self.length))  # (K, B, n, d)
            pyro.sample("x", self.likelihood(self.decoder(z.flatten(-2))), obs=x)

    def guide(self, x: Tensor) -> None:
        parameters = self.encoder(x.flatten(1)).unflatten(-1, (2, self.length, -1))
        loc, log_scale = parameters.unbind(-3)  # (B, n, d)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(2))


def _correlations(alpha: float | Sequence[float] | None, d: int) -> list[float]:
    """One for each coordinate.

    Raises:
        ValueError: one is outside (0, 1), or they are of another number.
    """
    if alpha is None:
        return [(i + 0.5) / d for i in range(d)]
    given = [float(alpha)] * d if isinstance(alpha, int | float) else [float(each) for each in alpha]
    if len(given) != d:
        raise ValueError(f"DeltaVAE: alpha has {len(given)} numbers for latents of {d} a step: give one number, or {d}")
    for each in given:
        if not 0 < each < 1:
            raise ValueError(
                f"DeltaVAE: alpha must lie in (0, 1), got {each:g}: at 0 the rate has no floor, at 1 z has no density"
            )
    return given
