"""Vector quantization at two levels, as a program: coarse codes first, finer codes given them, data given both.

p(t) = prior.top,   p(b | t) = prior.bottom(t),   p(x | t, b) = likelihood(decoder(t E_top, b E_bottom))
q(t | x) = posterior(encoder(x), E_top),   q(b | x, t) = posterior(refinement(encoder(x), t E_top), E_bottom)
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.nearest_code import NearestCode, nearest
from pplvm.networks.counted_codes import CountedCodes
from pplvm.networks.two_levels import TwoLevelDecoder, TwoLevelEncoder, TwoLevelRefinement
from pplvm.programs.code_posteriors import codes_by_distance
from pplvm.programs.codebooks import codebook_named, start_codes
from pplvm.programs.conditions import given, require_taken, shaped
from pplvm.programs.image_likelihoods import image_likelihood_named, output_shape, start_map_at
from pplvm.programs.sizes import require_sizes
from pplvm.programs.two_level_priors import TwoLevelPrior, two_level_prior_named
from pplvm.programs.vq_vae import POSTERIORS

__all__ = ["VQVAE2", "vq_vae_2"]


class VQVAE2(nn.Module):
    """A variational autoencoder whose latents are codes on a coarse grid, "top", and on a finer one, "bottom".

    The coarse codes tell of the whole, the finer ones add what is missing: the guide quantizes features of the image
    on the coarse grid, reads their codes, and quantizes what it then has on the finer grid. Under the nearest code as
    posterior, log q is 0, and the elbo is log p(x | t, b) + log p(b | t) + log p(t).

    The guide's penalties are "commitment", |z - stop(e)|^2, and "codebook", |stop(z) - e|^2, where a codebook learns by
    it: each one value a datum, summed over D, all positions and both levels, as the bound is over the data.
    `default_objective` and `default_penalties` are what `pplvm fit` trains it by.

    Arguments:
        encoder: x (B, *shape) to features of any shape and vectors (B, N, D) of the coarse grid; it runs once a datum.
        refinement: those features and vectors (..., N, D) of coarse codes to vectors (..., N', D') of the finer grid.
        decoder: vectors of coarse and of finer codes, for any number of leading dimensions, to what `likelihood` takes.
        top_codebook, bottom_codebook: as of `VQVAE`.
        likelihood: the decoder's output to a distribution whose event is one datum.
        prior: has `top`, which gives a distribution with event (N, K), and `bottom`, which gives one with event
            (N', K') of codes (..., N, K), as `TwoLevelPrior`.
        posterior: vectors (..., N, D) and codes (K, D) to the distribution of one code, with event (K,).

    With conditions, as model(x, y) and guide(x, y), those parts which take y are given it: prior.top(y) and
    prior.bottom(t, y) of a class-conditional model.

    Raises:
        TypeError: a part cannot be called, or the prior has no top or bottom.
        ValueError: in model(x), data are not of the likelihood's size, or a part needs y; in model(x, y), no part
            takes y.

    Example:
        >>> program = vq_vae_2((1, 8, 8), channels=16)
        >>> program.guide(torch.zeros(3, 1, 8, 8))

    References:
        Razavi, van den Oord and Vinyals, Generating diverse high-fidelity images with VQ-VAE-2, 2019, arXiv:1906.00446
    """

    def __init__(
        self,
        encoder: Callable[..., tuple[Tensor, Tensor]],
        refinement: Callable[..., Tensor],
        decoder: Callable[..., Any],
        top_codebook: CountedCodes,
        bottom_codebook: CountedCodes,
        likelihood: Callable[[Any], dist.TorchDistribution],
        prior: TwoLevelPrior,
        posterior: Callable[[Tensor, Tensor], dist.TorchDistribution] = NearestCode,
    ) -> None:
        super().__init__()
        self.encoder, self.refinement, self.decoder = encoder, refinement, decoder
        self.top_codebook, self.bottom_codebook = top_codebook, bottom_codebook
        self.likelihood, self.prior, self.posterior = likelihood, prior, posterior
        for name in ("encoder", "refinement", "decoder", "likelihood", "posterior"):
            if not callable(part := getattr(self, name)):
                raise TypeError(f"VQVAE2: {name} must be a module or a function, got {part!r}")
        if not all(callable(getattr(prior, level, None)) for level in ("top", "bottom")):
            raise TypeError(f"VQVAE2: prior must have parts top and bottom, as TwoLevelPrior, got {prior!r}")

    @property
    def default_objective(self) -> str:
        """The objective's name in the catalog that `pplvm fit` takes unless told."""
        return "biased-pathwise" if self._is_nearest else "rloo"

    @property
    def default_penalties(self) -> dict[str, float]:
        """The weights of penalties that `pplvm fit` takes unless told."""
        return ({"commitment": 0.25} | ({"codebook": 1.0} if self._has_loss else {})) if self._is_nearest else {}

    def model(self, x: Tensor, *conditions: Tensor) -> None:
        parts = (self.encoder, 1), (self.refinement, 2), (self.decoder, 2), (self.prior.top, 0), (self.prior.bottom, 1)
        require_taken("VQVAE2", conditions, *parts)
        with pyro.plate("batch", len(x)):
            top, bottom = self.draw_codes(*conditions)  # (K, B, N, C)
            vectors = self.top_codebook.embed(top), self.bottom_codebook.embed(bottom)
            p_x = self.likelihood(given("VQVAE2", self.decoder, vectors, conditions))
            pyro.sample("x", p_x, obs=shaped("VQVAE2", x, p_x.event_shape))

    def guide(self, x: Tensor, *conditions: Tensor) -> None:
        features, z_top = given("VQVAE2", self.encoder, (x,), conditions)  # (B, N, D)
        q_top = self.posterior(z_top, self.top_codebook.codes)
        with pyro.plate("batch", len(x)):
            top = pyro.sample("top", q_top.to_event(1))
            e_top = self.top_codebook.embed(top)
            z_bottom = given("VQVAE2", self.refinement, (features, e_top), conditions)
            q_bottom = self.posterior(z_bottom, self.bottom_codebook.codes)
            pyro.sample("bottom", q_bottom.to_event(1))
            levels = (self.top_codebook, z_top, q_top), (self.bottom_codebook, z_bottom, q_bottom)
            if isinstance(q_top, NearestCode):
                self._declare_penalties(*levels)
        if self.training and torch.is_grad_enabled():
            for codebook, z, found in levels:
                index = found.index if isinstance(found, NearestCode) else nearest(z, codebook.codes)
                codebook.observe(z.detach(), index)

    def draw_codes(self, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Draw both levels from the prior, within the batch plate: the part of the model that stage two learns."""
        top = pyro.sample("top", given("VQVAE2", self.prior.top, (), conditions))
        return top, pyro.sample("bottom", given("VQVAE2", self.prior.bottom, (top,), conditions))

    def proposal(self, temperature: float) -> "VQVAE2":
        """The same program with a guide that gives every code a probability, by which `pplvm evaluate` draws.

        Arguments:
            temperature: T, of `codes_by_distance`.
        """
        found = copy.copy(self)
        found._modules = {name: part for name, part in self._modules.items() if name != "posterior"}
        found.posterior = partial(codes_by_distance, temperature=temperature)
        return found

    def _declare_penalties(self, *levels: tuple[Any, Tensor, Any]) -> None:
        """One value a datum each: summed over D, the positions and the levels."""
        commitment, of_codes = [], []
        for codebook, z, found in levels:
            codes = codebook.codes[found.index]
            commitment.append((z - codes.detach()).square().sum((-2, -1)))
            if codebook.has_loss:
                of_codes.append((z.detach() - codes).square().sum((-2, -1)))
        pyro.deterministic("commitment", sum(commitment))
        if of_codes:
            pyro.deterministic("codebook", sum(of_codes))

    @property
    def _has_loss(self) -> bool:
        return any(codebook.has_loss for codebook in (self.top_codebook, self.bottom_codebook))

    @property
    def _is_nearest(self) -> bool:
        with torch.no_grad():
            codes = self.top_codebook.codes
            return isinstance(self.posterior(codes[:1], codes), NearestCode)


def vq_vae_2(
    data_shape: Sequence[int],
    grid: Sequence[int] = (2, 2),
    top_grid: Sequence[int] = (1, 1),
    num_codes: int = 16,
    code_size: int = 8,
    channels: int = 32,
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    prior: Literal["uniform", "pixelcnn", "transformer"] = "uniform",
    posterior: Literal["nearest", "rotation", "stochastic"] = "nearest",
    temperature: float = 0.5,
    codebook: Literal["gradient", "moving-average"] = "gradient",
    restart_below: float = 0.0,
    initial_codes: Literal["normal", "data", "k-means"] | None = None,
    num_blocks: int = 1,
    prior_width: int = 64,
    prior_layers: int = 4,
    prior_dropout: float = 0.0,
    data_mean: Tensor | None = None,
    data_examples: Tensor | None = None,
    levels: int | None = None,
    num_classes: int | None = None,
) -> VQVAE2:
    """Make a vector-quantized autoencoder of images with codes at two levels.

    Arguments:
        data_shape, data_mean, levels: of the data: (C, H, W), their mean (D,), grey or colour levels (256 of files).
        grid, top_grid: (h, w) of the finer codes, the image halved several times, and of the coarse ones, that halved.
        num_codes, code_size: K of each level, and the length of a code's vector.
        channels, num_blocks: of the networks on both grids, fewer channels nearer to the image; residual blocks.
        likelihood: by name; "discretized-logistic" of three channels couples them, as `DiscretizedLogisticImages`.
        prior: of both levels, by name, as for `two_level_prior_named`; prior_width and so on are of its networks.
        posterior, temperature, codebook, restart_below, initial_codes, data_examples: of both levels, as of `vq_vae`.
        num_classes: of labels that the prior takes, as model(x, y).

    Raises:
        ValueError: as its parts do, for a size, a name, or a grid that is no halving of the image.

    Example:
        >>> program = vq_vae_2((1, 28, 28), grid=(7, 7), top_grid=(4, 4), channels=16)
        >>> program.guide(torch.zeros(3, 1, 28, 28))
    """
    _check(data_shape, grid, top_grid, posterior, code_size=code_size, channels=channels, num_blocks=num_blocks)
    of_images = image_likelihood_named(likelihood, data_shape, levels)
    sizes = {"grid": grid, "top_grid": top_grid, "top_size": code_size, "channels": channels, "num_blocks": num_blocks}
    encoder, refinement = TwoLevelEncoder(data_shape, **sizes), TwoLevelRefinement(code_size=code_size, **sizes)
    decoder = TwoLevelDecoder(output_shape(of_images, data_shape), code_size=code_size, **sizes)
    start_map_at(decoder.bias, of_images, data_shape, data_mean)
    gradient = "decoder" if posterior == "stochastic" else "loss"
    top, bottom = (codebook_named(codebook, num_codes, code_size, gradient, restart_below=restart_below) for _ in "tb")
    start = initial_codes or ("normal" if data_examples is None else "data")
    _start(top, bottom, encoder, refinement, start, data_examples, data_shape)
    networks = prior_width, prior_layers, prior_dropout
    of_codes = two_level_prior_named(prior, grid, top_grid, num_codes, num_classes, *networks)
    stated = POSTERIORS[posterior](temperature)
    return VQVAE2(encoder, refinement, decoder, top, bottom, of_images, of_codes, stated)


def _start(
    top: CountedCodes,
    bottom: CountedCodes,
    encoder: TwoLevelEncoder,
    refinement: TwoLevelRefinement,
    start: str,
    examples: Tensor | None,
    data_shape: Sequence[int],
) -> None:
    """Start the codes of both levels by name, the finer ones where the coarse ones are known."""

    def of_bottom(x: Tensor) -> Tensor:
        features, z_top = encoder(x)
        return refinement(features, top.codes[nearest(z_top, top.codes)])

    start_codes(top, lambda x: encoder(x)[1], start, examples, data_shape)
    start_codes(bottom, of_bottom, start, examples, data_shape)


def _check(
    data_shape: Sequence[int], grid: Sequence[int], top_grid: Sequence[int], posterior: str, **numbers: int
) -> None:
    """Refuse sizes that are none, and posteriors that there are not.

    Raises:
        ValueError: with the argument's name.
    """
    require_sizes("vq_vae_2", "data_shape", data_shape, "channels, height and width", "1,28,28")
    if len(data_shape) != 3:
        raise ValueError(f"vq_vae_2: data_shape must be that of images (C, H, W), got {tuple(data_shape)}")
    for name, sizes in (("grid", grid), ("top_grid", top_grid)):
        if isinstance(sizes, int):  # as a setting gives one number
            raise ValueError(f"vq_vae_2: {name} is (height, width) of the codes, such as 2,2, got {sizes!r}")
        require_sizes("vq_vae_2", name, sizes, "height and width of a grid of codes", "2,2")
        if len(sizes) != 2:
            raise ValueError(f"vq_vae_2: {name} is (height, width) of the codes, such as 2,2, got {tuple(sizes)!r}")
    for name, number in numbers.items():
        require_sizes("vq_vae_2", name, [number])
    if posterior not in POSTERIORS:
        raise ValueError(f"vq_vae_2: posterior must be {' or '.join(map(repr, POSTERIORS))}, got {posterior!r}")
