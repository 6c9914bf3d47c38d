"""The variational lower bound of a Gaussian diffusion by one of its steps, for the elbo alone."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from pplvm.distributions.diffusion_steps import DiffusionSteps
from pplvm.distributions.gaussian_diffusion import Denoiser, ReverseDiffusion

__all__ = ["OneStepDiffusion"]


class OneStepDiffusion(dist.TorchDistribution):
    """A diffusion prior whose log_prob is a random lower bound: one denoising step stands for all T.

        log_prob(u) = -KL(q(u_T | u) || N(0, I)) - sum_i c_i - T k_i |u - uhat(u_i)|^2 / 2
        i uniform on 1 .. T,   u_i ~ q(u_i | u)

        k_i = pull_i^2 / variance_i,   c_i = Z (log(variance_i / posterior_i) + posterior_i / variance_i - 1) / 2
        c_1 = Z log(2 pi variance_1) / 2

    The last is (T / 2) (snr_{i-1} - snr_i) |u - uhat|^2 where variance_i = posterior_i. On average over time and noise
    it is the elbo of the T latents of `ReverseDiffusion`, at a T-th of the cost. The time and the noise are drawn
    elsewhere, as latents of model and guide alike, so that log_prob is a function; yet exp(log_prob) averages to no
    density, which objectives on other bounds than the elbo refuse.

    Draws come from the whole reverse chain.

    Arguments:
        denoise, steps: as of `ReverseDiffusion`.
        time: (*batch_shape) in [0, 1), of which the step is the T-th part.
        noise: (*batch_shape, Z), standard normal.
        loc, scale: (Z,) each, of a value whose diffusion is that of u = (value - loc) / scale.

    Raises:
        ValueError: noise has another batch shape than time.

    Example:
        >>> from pplvm.distributions.diffusion_steps import datum_variance, diffusion_steps
        >>> log_snr = torch.linspace(4, -4, 3)
        >>> steps = diffusion_steps(log_snr, datum_variance(log_snr))
        >>> of_normal_data = lambda u, log_snr: torch.sigmoid(log_snr).sqrt().unsqueeze(-1) * u
        >>> zeros = torch.zeros(2)
        >>> bound = OneStepDiffusion(of_normal_data, steps, torch.rand(5), torch.randn(5, 2), zeros, zeros + 1)
        >>> bound.log_prob(torch.zeros(5, 2)).shape, bound.is_random_lower_bound
        (torch.Size([5]), True)

    References:
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, arXiv:2006.11239
    """

    arg_constraints: Any = {"time": constraints.unit_interval, "noise": constraints.real_vector}
    support: Any = constraints.real_vector
    has_rsample = True
    is_random_lower_bound = True
    exact_instead = "all T noisy latents (diffusion_prior's estimate='chain')"

    def __init__(
        self,
        denoise: Denoiser,
        steps: DiffusionSteps,
        time: Tensor,
        noise: Tensor,
        loc: Tensor,
        scale: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        if noise.shape[:-1] != time.shape:
            raise ValueError(
                f"OneStepDiffusion: noise must be (*batch_shape, Z) with the batch shape of time, got "
                f"{tuple(noise.shape)} and {tuple(time.shape)}"
            )
        self.denoise, self.steps = denoise, steps
        self.time, self.noise, self.loc, self.scale = time, noise, loc, scale
        super().__init__(torch.Size(time.shape), torch.Size(noise.shape[-1:]), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "OneStepDiffusion":
        new: Any = self._get_checked_instance(OneStepDiffusion, _instance)
        new.denoise, new.steps, new.loc, new.scale = self.denoise, self.steps, self.loc, self.scale
        new.time, new.noise = self.time.expand(batch_shape), self.noise.expand(*batch_shape, -1)
        dist.TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        steps = self.steps
        shape = self._extended_shape(torch.Size(sample_shape))
        first = ReverseDiffusion(self.denoise, steps, shape[-1], validate_args=False).expand(shape[:-1]).rsample()
        u = first[..., 0, :]
        mean = self.denoise(u, steps.log_snr[0].expand(u.shape[:-1]))
        return self.loc + self.scale * (mean + steps.variance[0].sqrt() * torch.randn_like(mean))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        steps, T = self.steps, len(self.steps.alpha)
        u = (value - self.loc) / self.scale
        index = (self.time * T).long().clamp(max=T - 1)  # (*batch_shape)
        noisy = steps.alpha[index].unsqueeze(-1) * u + steps.sigma[index].unsqueeze(-1) * self.noise
        estimate = self.denoise(noisy, steps.log_snr[index].expand(noisy.shape[:-1]))
        away = (u - estimate).square().sum(-1)
        weight = (steps.pull.square() / steps.variance)[index]
        return self._known(u) - T / 2 * weight * away - self.scale.log().sum(-1)

    def _known(self, u: Tensor) -> Tensor:
        """What no network enters: the noisiest latent's KL to N(0, I), and the steps' variances, (...)."""
        steps, Z = self.steps, u.shape[-1]
        alpha, sigma = steps.alpha[-1], steps.sigma[-1]
        end = (alpha * u).square().sum(-1) / 2 + Z / 2 * (sigma.square() - 1 - 2 * sigma.log())
        ratio = steps.posterior[1:] / steps.variance[1:]
        variances = (ratio - 1 - ratio.log()).sum() + (2 * math.pi * steps.variance[0]).log()
        return -end - Z / 2 * variances
