"""A variational autoencoder whose latents lie on the unit sphere, at a rate that can be known before training.

p(z) = uniform on the sphere,   p(x | z) = likelihood(decoder(z)),   q(z | x) = PowerSpherical(encoder(x), kappa)

    KL(q(z | x) || p(z)) is a function of kappa and of the dimension alone, the same for every x
"""

from collections.abc import Callable, Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.spherical_uniform import SphericalUniform
from pplvm.networks.dense import MLP
from pplvm.programs.dense_networks import dense_decoder
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_dense_sizes
from pplvm.programs.spherical_parts import SphericalPosterior, SphericalUniformPrior

__all__ = ["HypersphericalVAE"]


class HypersphericalVAE(nn.Module):
    """A variational autoencoder on the unit sphere, with dense networks.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: d, the length of z, at least 2: the sphere has d - 1 dimensions.
        hidden_sizes: of the encoder; the decoder has them in reverse.
        likelihood: by name, as of `pplvm.programs.likelihoods.likelihood_named`.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        levels: of grey data.
        concentration: kappa of the posterior of every x, positive; None to learn it for each x, which early in training
            falls and lets z go unused: warm the KL up then.
        posterior: of a direction (..., d) and a concentration (...): `PowerSpherical`, or `VonMisesFisher` for d = 3.

    Attributes:
        rate: KL(q(z | x) || p(z)) in nats, the same for every x; None where kappa is learned.

    Raises:
        ValueError: latent_size is less than 2, or none of the posterior's; concentration is not positive; there is no
            such likelihood.

    Example:
        >>> program = HypersphericalVAE(data_size=6, latent_size=10, hidden_sizes=(5,), concentration=100.0)
        >>> round(program.rate, 2)
        8.61

    References:
        Davidson, Falorsi, De Cao, Kipf and Tomczak, Hyperspherical variational auto-encoders, 2018, arXiv:1804.00891
        Xu and Durrett, Spherical latent spaces for stable variational autoencoders, 2018, arXiv:1808.10805
        De Cao and Aziz, The power spherical distribution, 2020, arXiv:2006.04437
    """

    def __init__(
        self,
        data_size: int,
        latent_size: int = 12,
        hidden_sizes: Sequence[int] = (200,),
        likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
        data_mean: Tensor | None = None,
        levels: int | None = None,
        concentration: float | None = 70.0,
        posterior: Callable[[Tensor, Tensor], dist.TorchDistribution] = PowerSpherical,
    ) -> None:
        super().__init__()
        require_dense_sizes("HypersphericalVAE", latent_size, hidden_sizes)
        self.prior = SphericalUniformPrior(latent_size)
        outputs = latent_size + (concentration is None)
        network = MLP(data_size, outputs, hidden_sizes, nn.Softplus)
        self.encoder = SphericalPosterior(network, concentration, posterior)
        self.likelihood = likelihood_named(likelihood, data_size, levels)
        self.decoder = dense_decoder(latent_size, self.likelihood, hidden_sizes, "softplus", data_mean)
        self.rate = None if concentration is None else _rate(posterior, latent_size, concentration)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.prior())  # (K, B, d)
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        q_z = self.encoder(x.flatten(1))
        with pyro.plate("batch", len(x)):
            pyro.sample("z", q_z)


def _rate(posterior: Callable[..., dist.TorchDistribution], dim: int, concentration: float) -> float:
    """KL(q || uniform) in nats, for any direction."""
    north = torch.eye(dim, dtype=torch.float64, device="cpu")[0]
    q = posterior(north, torch.tensor(concentration, dtype=torch.float64, device="cpu"))
    return float(kl_divergence(q, SphericalUniform(dim, dtype=torch.float64, device=torch.device("cpu"))))
