"""Vector quantization as a program: codes on a grid, of which a guide names the nearest to the encoder's vectors.

p(v) = prior over (N, K) one-hots,   p(x | v) = likelihood(decoder(v E)),   q(v_n | x) = posterior(encoder(x)_n, E)
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.nearest_code import NearestCode, nearest, rotation
from pplvm.networks.counted_codes import CountedCodes
from pplvm.programs.code_networks import DENSE_GRID, convolutional_code_networks, dense_code_networks
from pplvm.programs.code_posteriors import StochasticCodes, codes_by_distance
from pplvm.programs.code_priors import code_prior_named
from pplvm.programs.codebooks import codebook_named, start_codes
from pplvm.programs.conditions import given, require_taken, shaped
from pplvm.programs.likelihoods import likelihood_named

__all__ = ["VQVAE", "vq_vae"]

POSTERIORS: dict[str, Callable[[float], Callable[[Tensor, Tensor], dist.TorchDistribution]]] = {
    "nearest": lambda temperature: NearestCode,
    "rotation": lambda temperature: partial(NearestCode, path=rotation),
    "stochastic": StochasticCodes,
}

COMMITMENT = 0.25
"""The weight of van den Oord et al., for each code."""


class VQVAE(nn.Module):
    """A variational autoencoder whose latents are N codes of a codebook of K vectors E of length D.

    Under the nearest code as posterior, log q is 0, and the elbo is log p(x | v) + log p(v): with a uniform prior the
    reconstruction less N log K nats. Its guide declares two penalties, each one value a datum, summed over D and
    averaged over the N positions: "commitment", |z - stop(e)|^2, and "codebook", |stop(z) - e|^2, the latter where
    the codebook learns by it. `default_objective` and `default_penalties` are what `pplvm fit` trains it by.

    Arguments:
        encoder: x (B, *shape) to z (B, N, D); it runs once a datum.
        codebook: has `codes` (K, D), `embed` from one-hots (..., N, K) to vectors (..., N, D), `has_loss`, and
            `observe(z, index)`, which is called in every training run of the guide: one of
            `pplvm.networks.codebook`.
        decoder: vectors (..., N, D) to what `likelihood` takes, for any number of leading dimensions (`LeadingDims`).
        likelihood: the decoder's output to a distribution whose event is one datum.
        prior: called, gives a distribution with event (N, K), as those of `pplvm.programs.code_priors`. If it has a
            method `auxiliary()`, a dictionary of distributions by name, these are drawn before the codes in both roles
            and given to it by name.
        posterior: z (B, N, D) and codes (K, D) to the distribution of one code, with event (K,).
        commitment: the default weight of that penalty, a mean over N beside a bound that sums over all of a datum:
            0.25 N weighs each code by 0.25. Too low, and vectors run away from their codes.

    With conditions, as model(x, y) and guide(x, y), those of encoder(x, y), decoder(e, y) and prior(y) which take y are
    given it.

    Raises:
        TypeError: a part cannot be called.
        ValueError: in model(x), data are not of the likelihood's size, or a part needs y; in model(x, y), no part
            takes y; in guide(x), vectors are not of the codes' length.

    Example:
        >>> from pplvm.networks.codebook import Codebook
        >>> from pplvm.networks.dense import MLP
        >>> from pplvm.programs.code_priors import UniformCodePrior
        >>> from pplvm.programs.parts import bernoulli
        >>> encoder = nn.Sequential(MLP(6, 4), nn.Unflatten(-1, (2, 2)))
        >>> decoder = nn.Sequential(nn.Flatten(-2), MLP(4, 6))
        >>> program = VQVAE(encoder, Codebook(5, 2), decoder, bernoulli, UniformCodePrior(5, (1, 2)))
        >>> program.guide(torch.zeros(3, 6))

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
        Sonderby, Poole and Mnih, Continuous relaxation training of discrete latent variable image models, 2017
    """

    def __init__(
        self,
        encoder: Callable[..., Tensor],
        codebook: CountedCodes,
        decoder: Callable[..., Any],
        likelihood: Callable[[Any], dist.TorchDistribution],
        prior: Callable[..., dist.TorchDistribution],
        posterior: Callable[[Tensor, Tensor], dist.TorchDistribution] = NearestCode,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        self.commitment = commitment
        self.encoder, self.codebook, self.decoder = encoder, codebook, decoder
        self.likelihood, self.prior, self.posterior = likelihood, prior, posterior
        for name in ("encoder", "decoder", "likelihood", "prior", "posterior"):
            if not callable(part := getattr(self, name)):
                raise TypeError(f"VQVAE: {name} must be a module or a function, got {part!r}")

    @property
    def default_objective(self) -> str:
        """The objective's name in the catalog that `pplvm fit` takes unless told."""
        return "biased-pathwise" if self._is_nearest else "rloo"

    @property
    def default_penalties(self) -> dict[str, float]:
        """The weights of penalties that `pplvm fit` takes unless told."""
        if not self._is_nearest:
            return {}
        return {"commitment": self.commitment} | ({"codebook": 1.0} if self.codebook.has_loss else {})

    def model(self, x: Tensor, *conditions: Tensor) -> None:
        require_taken("VQVAE", conditions, (self.encoder, 1), (self.decoder, 1), (self.prior, 0))
        with pyro.plate("batch", len(x)):
            v = self.draw_codes(*conditions)  # (K, B, N, K')
            p_x = self.likelihood(given("VQVAE", self.decoder, (self.codebook.embed(v),), conditions))
            pyro.sample("x", p_x, obs=shaped("VQVAE", x, p_x.event_shape))

    def guide(self, x: Tensor, *conditions: Tensor) -> None:
        z = given("VQVAE", self.encoder, (x,), conditions)  # (B, N, D)
        found = self.posterior(z, self.codebook.codes)
        with pyro.plate("batch", len(x)):
            self.draw_auxiliary()
            pyro.sample("codes", found.to_event(1))
            if isinstance(found, NearestCode):
                self._declare_penalties(z, found.index)
        if self.training and torch.is_grad_enabled():
            index = found.index if isinstance(found, NearestCode) else nearest(z, self.codebook.codes)
            self.codebook.observe(z.detach(), index)

    def draw_codes(self, *conditions: Tensor) -> Tensor:
        """Draw the codes from the prior, within the batch plate: the part of the model that stage two learns."""
        return pyro.sample("codes", given("VQVAE", self.prior, (), conditions, **self.draw_auxiliary()))

    def proposal(self, temperature: float) -> "VQVAE":
        """The same program with a guide that gives every code a probability, by which `pplvm evaluate` draws.

        Arguments:
            temperature: T, of `codes_by_distance`.
        """
        found = copy.copy(self)
        found._modules = {name: part for name, part in self._modules.items() if name != "posterior"}
        found.posterior = partial(codes_by_distance, temperature=temperature)
        return found

    def draw_auxiliary(self) -> dict[str, Tensor]:
        """Draw what the prior needs beside the codes, within the batch plate: an order, a time."""
        needed = getattr(self.prior, "auxiliary", dict)()
        return {name: pyro.sample(name, fn) for name, fn in needed.items()}

    def _declare_penalties(self, z: Tensor, index: Tensor) -> None:
        codes = self.codebook.codes[index]
        pyro.deterministic("commitment", (z - codes.detach()).square().sum(-1).mean(-1))
        if self.codebook.has_loss:
            pyro.deterministic("codebook", (z.detach() - codes).square().sum(-1).mean(-1))

    @property
    def _is_nearest(self) -> bool:
        with torch.no_grad():
            codes = self.codebook.codes
            return isinstance(self.posterior(codes[:1], codes), NearestCode)


def vq_vae(
    data_size: int,
    grid: Sequence[int] | None = None,
    num_codes: int = 16,
    code_size: int = 8,
    hidden_sizes: Sequence[int] = (200,),
    channels: Sequence[int] | None = None,
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    prior: Literal["uniform", "pixelcnn", "transformer", "absorbing", "absorbing-exact"] = "uniform",
    posterior: Literal["nearest", "rotation", "stochastic"] = "nearest",
    temperature: float = 0.5,
    codebook: Literal["gradient", "moving-average"] = "gradient",
    restart_below: float = 0.0,
    initial_codes: Literal["normal", "data", "k-means"] | None = None,
    data_mean: Tensor | None = None,
    activation: Literal["softplus", "tanh", "elu"] = "softplus",
    levels: int | None = None,
    data_shape: Sequence[int] | None = None,
    data_examples: Tensor | None = None,
    num_classes: int | None = None,
) -> VQVAE:
    """Make a vector-quantized autoencoder, dense, or convolutional if channels are given.

    Arguments:
        data_size, data_shape, levels, data_mean: of the data: D, (C, H, W), grey levels, the mean (D,).
        grid: (h, w), of N = h w codes; 2 x 2 unless given, and with `channels` the image halved once for each.
        num_codes, code_size: K and the length of a code's vector.
        hidden_sizes, activation: of the dense encoder; the dense decoder has them in reverse.
        channels: of a convolutional encoder and decoder, at each scale, each half as high and wide as the one before.
        likelihood, prior: by name, as for `likelihood_named` and `code_prior_named`.
        posterior: "nearest" code, straight through; the same by the "rotation" trick; "stochastic", a categorical by
            distance at a learned temperature, which starts at `temperature`.
        codebook: learned by "gradient", or as a "moving-average" of the vectors that are nearest to each code.
        restart_below: codes used less than this fraction of the mean use are moved onto vectors of the data.
        initial_codes: "data" (vectors of data_examples (n, D)), "k-means" (centres of clusters), or "normal". Unless
            told, "data", but "normal" for a stochastic posterior: vectors of data are too close for T = 0.5.
        num_classes: of labels that the prior takes, as model(x, y).

    Raises:
        ValueError: as its parts do, for a size, a name, or a shape that is none of theirs.

    Example:
        >>> program = vq_vae(64, grid=(2, 2), num_codes=16)
        >>> program.guide(torch.zeros(3, 8, 8))
    """
    if posterior not in POSTERIORS:
        raise ValueError(f"vq_vae: posterior must be {' or '.join(map(repr, POSTERIORS))}, got {posterior!r}")
    gradient = "decoder" if posterior == "stochastic" else "loss"
    codes = codebook_named(codebook, num_codes, code_size, gradient, restart_below=restart_below)
    named, shape = likelihood_named(likelihood, data_size, levels), data_shape if channels else (data_size,)
    if channels is None:
        networks = dense_code_networks(named, grid or DENSE_GRID, code_size, hidden_sizes, activation, data_mean)
    else:
        networks = convolutional_code_networks(named, data_shape, code_size, channels, grid, data_mean)
    start = initial_codes or ("normal" if data_examples is None or posterior == "stochastic" else "data")
    start_codes(codes, networks.encoder, start, data_examples, shape)
    prior_of_codes = code_prior_named(prior, networks.grid, num_codes, num_classes)
    stated = POSTERIORS[posterior](temperature)
    parts = networks.encoder, codes, networks.decoder, networks.likelihood
    return VQVAE(*parts, prior_of_codes, stated, COMMITMENT * networks.grid[0] * networks.grid[1])
