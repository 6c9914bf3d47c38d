"""Stochastic quantization as a program: a noisy vector is drawn first, and its code by Bayes' rule.

p(v) = prior over (N, K) one-hots,   p(y_n | v) = N(e_n, S I),   p(x | v) = likelihood(decoder(v E)),   e = v E
q(y_n | x) = N(encoder(x)_n, S I),   q(v_n | y) proportional to exp(-|y_n - e_k|^2 / 2S)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.code_categorical import CodeCategorical
from pplvm.distributions.nearest_code import nearest
from pplvm.networks.codebook import Codebook
from pplvm.networks.counted_codes import CountedCodes
from pplvm.programs.code_networks import DENSE_GRID, convolutional_code_networks, dense_code_networks
from pplvm.programs.code_priors import code_prior_named
from pplvm.programs.conditions import given, require_taken, shaped
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_sizes

__all__ = ["SQVAE", "sq_vae"]


class SQVAE(nn.Module):
    """A variational autoencoder with codes of which the guide sees noisy vectors, "vectors", that the model has too.

    The noisy vectors are a latent beside the codes, of one variance S, learned, in both roles: where S falls, the
    quantization becomes a certain one by itself. All of log p(v) - log q(v | y) + log p(y | v) - log q(y | x) is in the
    bound, N log K and the entropy of the codes drawn included, so that it is one of log p(x). There is no penalty.

    Arguments:
        encoder: x (B, *shape) to the means of the noisy vectors, (B, N, D); it runs once a datum.
        codebook: has `codes` (K, D), `embed` from one-hots (..., N, K) to vectors (..., N, D), and `observe(z, index)`,
            with the gradient of the "decoder".
        decoder: vectors (..., N, D) to what `likelihood` takes, for any number of leading dimensions (`LeadingDims`).
        likelihood: the decoder's output to a distribution whose event is one datum.
        prior: called, gives a distribution with event (N, K), as those of `pplvm.programs.code_priors`, and may have
            `auxiliary()`, as for `VQVAE`.
        variance: S at the start, above 0.

    With conditions, as model(x, y) and guide(x, y), those of encoder(x, y), decoder(e, y) and prior(y) which take y are
    given it.

    Raises:
        TypeError: a part cannot be called.
        ValueError: variance is not above 0; in model(x) and guide(x), as `VQVAE`.

    Example:
        >>> program = sq_vae(6, grid=(1, 2), num_codes=5, code_size=2)
        >>> program.guide(torch.zeros(3, 6))

    References:
        Takida, Shibuya, Liao, Lai, Ohmura, Uesaka, Murata, Takahashi, Kumakura and Mitsufuji, SQ-VAE: variational
        Bayes on discrete representation with self-annealed stochastic quantization, 2022, arXiv:2205.07547
    """

    default_objective = "rloo"

    def __init__(
        self,
        encoder: Callable[..., Tensor],
        codebook: CountedCodes,
        decoder: Callable[..., Any],
        likelihood: Callable[[Any], dist.TorchDistribution],
        prior: Callable[..., dist.TorchDistribution],
        variance: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.codebook, self.decoder = encoder, codebook, decoder
        self.likelihood, self.prior = likelihood, prior
        for name in ("encoder", "decoder", "likelihood", "prior"):
            if not callable(part := getattr(self, name)):
                raise TypeError(f"SQVAE: {name} must be a module or a function, got {part!r}")
        if isinstance(variance, bool) or not isinstance(variance, int | float) or not 0 < variance < math.inf:
            raise ValueError(f"SQVAE: variance must be a number above 0, got {variance!r}")
        self.log_variance = nn.Parameter(torch.tensor(math.log(variance)))

    def model(self, x: Tensor, *conditions: Tensor) -> None:
        require_taken("SQVAE", conditions, (self.encoder, 1), (self.decoder, 1), (self.prior, 0))
        with pyro.plate("batch", len(x)):
            v = pyro.sample("codes", given("SQVAE", self.prior, (), conditions, **self._auxiliary()))  # (K, B, N, K')
            e = self.codebook.embed(v)
            pyro.sample("vectors", self._around(e))
            p_x = self.likelihood(given("SQVAE", self.decoder, (e,), conditions))
            pyro.sample("x", p_x, obs=shaped("SQVAE", x, p_x.event_shape))

    def guide(self, x: Tensor, *conditions: Tensor) -> None:
        z = given("SQVAE", self.encoder, (x,), conditions)  # (B, N, D)
        with pyro.plate("batch", len(x)):
            self._auxiliary()
            y = pyro.sample("vectors", self._around(z))  # (K, B, N, D)
            pyro.sample("codes", CodeCategorical(y, self.codebook.codes, self.log_variance.exp()).to_event(1))
        if self.training and torch.is_grad_enabled():
            self.codebook.observe(z.detach(), nearest(z, self.codebook.codes))

    def _around(self, vectors: Tensor) -> dist.TorchDistribution:
        return dist.Normal(vectors, (self.log_variance / 2).exp()).to_event(2)

    def _auxiliary(self) -> dict[str, Tensor]:
        needed = getattr(self.prior, "auxiliary", dict)()
        return {name: pyro.sample(name, fn) for name, fn in needed.items()}


def sq_vae(
    data_size: int,
    grid: Sequence[int] | None = None,
    num_codes: int = 16,
    code_size: int = 8,
    hidden_sizes: Sequence[int] = (200,),
    channels: Sequence[int] | None = None,
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    prior: Literal["uniform", "pixelcnn", "transformer", "absorbing", "absorbing-exact"] = "uniform",
    variance: float = 1.0,
    data_mean: Tensor | None = None,
    activation: Literal["softplus", "tanh", "elu"] = "softplus",
    levels: int | None = None,
    data_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> SQVAE:
    """Make a stochastically quantized autoencoder, dense, or convolutional if channels are given.

    Arguments:
        variance: S at the start.
        data_size, grid, num_codes, code_size, hidden_sizes, channels, likelihood, prior, data_mean, activation, levels,
            data_shape, num_classes: as of `vq_vae`.

    Raises:
        ValueError: as `vq_vae`; variance is not above 0.

    Example:
        >>> program = sq_vae(64, grid=(2, 2), num_codes=16)
        >>> program.guide(torch.zeros(3, 8, 8))

    References:
        Takida et al., SQ-VAE: variational Bayes on discrete representation with self-annealed stochastic quantization,
        2022, arXiv:2205.07547
    """
    require_sizes("sq_vae", "code_size", [code_size])
    named = likelihood_named(likelihood, data_size, levels)
    if channels is None:
        networks = dense_code_networks(named, grid or DENSE_GRID, code_size, hidden_sizes, activation, data_mean)
    else:
        networks = convolutional_code_networks(named, data_shape, code_size, channels, grid, data_mean)
    return SQVAE(
        networks.encoder,
        Codebook(num_codes, code_size, "decoder"),
        networks.decoder,
        networks.likelihood,
        code_prior_named(prior, networks.grid, num_codes, num_classes),
        variance,
    )
