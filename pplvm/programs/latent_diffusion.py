"""A Gaussian diffusion of latents, as a prior: its chains, their end, and the bound of a single step."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.diffusion_steps import DiffusionSteps, datum_variance, diffusion_steps
from pplvm.distributions.gaussian_diffusion import ForwardDiffusion, ReverseDiffusion
from pplvm.distributions.one_step_diffusion import OneStepDiffusion
from pplvm.networks.denoising_mlp import DenoisingMLP
from pplvm.networks.standardization import RunningStandardization

__all__ = ["LatentDiffusion"]


class LatentDiffusion(nn.Module):
    """A diffusion of latents z with T noisy latents, of z scaled to zero mean and unit variance.

        u = (z - loc) / scale,   p(z) = integral p(u_T) prod_i p(u_{i-1} | u_i) d(u_1 .. u_T) / prod scale

    Log signal-to-noise ratios fall evenly. The variance of each step is the true one of u ~ N(0, I) times a learned
    factor. With a denoiser that starts as `DenoisingMLP` does, the prior starts as N(loc, scale^2) exactly.

    Arguments:
        latent_size: Z.
        num_steps: T, noisy latents, at least 1.
        denoise: noisy latents (..., Z) and log SNRs (...) to estimates of u; a `DenoisingMLP` unless given.
        log_snr_range: of the least noisy latent and of the noisiest; one latent has the mean of both.
        standardization: of z, with loc and scale (Z,) and observe(z); a `RunningStandardization` unless given.

    Raises:
        ValueError: latent_size or num_steps is below 1, or the range does not fall.

    Example:
        >>> prior = LatentDiffusion(latent_size=2, num_steps=5)
        >>> chain = prior.forward_chain(torch.zeros(3, 2)).sample()
        >>> chain.shape, prior.reverse_chain().log_prob(chain).shape, prior.given_chain(chain).event_shape
        (torch.Size([3, 5, 2]), torch.Size([3]), torch.Size([2]))

    References:
        Vahdat, Kreis and Kautz, Score-based generative modeling in latent space, 2021, arXiv:2106.05931
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630
        Nichol and Dhariwal, Improved denoising diffusion probabilistic models, 2021, arXiv:2102.09672
        (learned variances)
    """

    log_snr: Tensor

    def __init__(
        self,
        latent_size: int,
        num_steps: int = 20,
        denoise: Callable[[Tensor, Tensor], Tensor] | None = None,
        log_snr_range: tuple[float, float] = (6.0, -4.0),
        standardization: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
            raise ValueError(f"LatentDiffusion: num_steps must be an integer of at least 1, got {num_steps!r}")
        high, low = log_snr_range
        if not high > low:
            raise ValueError(f"LatentDiffusion: log_snr_range must fall, as 6,-4, got {tuple(log_snr_range)}")
        self.latent_size = latent_size
        self.denoise = DenoisingMLP(latent_size) if denoise is None else denoise
        self.standardization: Any = RunningStandardization(latent_size) if standardization is None else standardization
        ratios = torch.linspace(high, low, num_steps) if num_steps > 1 else torch.tensor([(high + low) / 2])
        self.register_buffer("log_snr", ratios)
        self.log_factors = nn.Parameter(torch.zeros(num_steps))

    @property
    def steps(self) -> DiffusionSteps:
        return diffusion_steps(self.log_snr, datum_variance(self.log_snr) * self.log_factors.exp())

    def forward_chain(self, z: Tensor) -> dist.TorchDistribution:
        """q(u_1 .. u_T | z), event (T, Z), for z (..., Z)."""
        return ForwardDiffusion((z - self.standardization.loc) / self.standardization.scale, self.log_snr)

    def reverse_chain(self) -> dist.TorchDistribution:
        """p(u_1 .. u_T), event (T, Z)."""
        return ReverseDiffusion(self.denoise, self.steps, self.latent_size)

    def given_chain(self, chain: Tensor) -> dist.TorchDistribution:
        """p(z | u_1), event (Z,), for chains (..., T, Z)."""
        u, scale = chain[..., 0, :], self.standardization.scale
        mean = self.denoise(u, self.log_snr[0].expand(u.shape[:-1]))
        return dist.Normal(self.standardization.loc + scale * mean, scale * self.steps.variance[0].sqrt()).to_event(1)

    def one_step(self, time: Tensor, noise: Tensor) -> dist.TorchDistribution:
        """p(z) with a random lower bound for its log_prob, given a time (...) and noise (..., Z)."""
        scaled = self.standardization
        return OneStepDiffusion(self.denoise, self.steps, time, noise, scaled.loc, scaled.scale)

    def observe(self, z: Tensor) -> None:
        """Let training latents (..., Z) move the location and scale."""
        self.standardization.observe(z)
