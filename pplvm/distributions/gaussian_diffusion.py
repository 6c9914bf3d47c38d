"""The two chains of a Gaussian diffusion: the fixed forward chain from a datum, and the learned reverse chain.

forward   q(u_1, ..., u_T | u) = prod_i q(u_i | u_{i-1}),              u_0 = u
reverse   p(u_1, ..., u_T)     = N(u_T; 0, v_T) prod_i p(u_{i-1} | u_i)

Both have the event (T, Z), the least noisy latent first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import Normal

from pplvm.distributions.diffusion_steps import DiffusionSteps

__all__ = ["Denoiser", "ForwardDiffusion", "ReverseDiffusion"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""From noisy latents (..., Z) and their log signal-to-noise ratios (...) to estimates of the datum (..., Z)."""


class ForwardDiffusion(dist.TorchDistribution):
    """The noisy latents of a datum, a Gaussian chain that is drawn all at once.

        u_i / alpha_i = u + sum_{j <= i} sqrt(1 / snr_j - 1 / snr_{j-1}) noise_j,     1 / snr_0 = 0

    Arguments:
        start: u, (*batch_shape, Z).
        log_snr: (T,), falling.

    Raises:
        ValueError: log_snr is not (T,) with T of at least 1, or start has no dimension.

    Example:
        >>> forward = ForwardDiffusion(torch.zeros(5, 2), torch.linspace(4, -4, 3))
        >>> forward.batch_shape, forward.event_shape, forward.rsample((7,)).shape
        (torch.Size([5]), torch.Size([3, 2]), torch.Size([7, 5, 3, 2]))

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, Deep unsupervised learning using nonequilibrium
        thermodynamics, 2015, arXiv:1503.03585
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, arXiv:2006.11239
    """

    arg_constraints: Any = {"start": constraints.real_vector, "log_snr": constraints.real_vector}
    support: Any = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, start: Tensor, log_snr: Tensor, validate_args: bool | None = None) -> None:
        if log_snr.dim() != 1 or not len(log_snr) or not start.dim():
            raise ValueError(
                f"ForwardDiffusion: log_snr must be (T,) with T of at least 1 and start (..., Z), got shapes "
                f"{tuple(log_snr.shape)} and {tuple(start.shape)}"
            )
        self.start, self.log_snr = start, log_snr
        shape = (len(log_snr), start.shape[-1])
        super().__init__(start.shape[:-1], torch.Size(shape), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ForwardDiffusion":
        new: Any = self._get_checked_instance(ForwardDiffusion, _instance)
        new.start, new.log_snr = self.start.expand(*batch_shape, -1), self.log_snr
        dist.TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        start, alpha = self.start, torch.sigmoid(self.log_snr).sqrt()
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)), dtype=start.dtype, device=start.device)
        walk = (self._increments().sqrt().unsqueeze(-1) * noise).cumsum(-2)
        return alpha.unsqueeze(-1) * (start.unsqueeze(-2) + walk)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        alpha = torch.sigmoid(self.log_snr).sqrt()
        before = torch.cat([torch.ones_like(alpha[:1]), alpha[:-1]])
        value = value.expand(*torch.broadcast_shapes(value.shape[:-2], self.batch_shape), *self.event_shape)
        start = self.start.unsqueeze(-2).expand(*value.shape[:-2], 1, -1)
        mean = (alpha / before).unsqueeze(-1) * torch.cat([start, value[..., :-1, :]], -2)
        scale = alpha * self._increments().sqrt()
        return Normal(mean, scale.unsqueeze(-1), validate_args=False).log_prob(value).sum((-2, -1))

    def _increments(self) -> Tensor:
        """1 / snr_i - 1 / snr_{i-1}, (T,), without the cancellation of their difference."""
        rise = -torch.expm1(self.log_snr[1:] - self.log_snr[:-1])  # 1 - snr_i / snr_{i-1}
        return (-self.log_snr).exp() * torch.cat([torch.ones_like(self.log_snr[:1]), rise])


class ReverseDiffusion(dist.TorchDistribution):
    """The reverse chain of noisy latents, whose density is one batched pass over T and whose draws are sequential.

        p(u_{i-1} | u_i) = N(keep_i u_i + pull_i uhat(u_i), variance_i),     u_T ~ N(0, end_variance)

    The datum itself comes after the chain, from u_1.

    Arguments:
        denoise: u_i (..., Z) and log_snr (...) to uhat (..., Z).
        steps: of `diffusion_steps`.
        size: Z.
        end_variance: of the noisiest latent.

    Raises:
        ValueError: size is below 1.

    Example:
        >>> from pplvm.distributions.diffusion_steps import datum_variance, diffusion_steps
        >>> log_snr = torch.linspace(4, -4, 3)
        >>> steps = diffusion_steps(log_snr, datum_variance(log_snr))
        >>> of_normal_data = lambda u, log_snr: torch.sigmoid(log_snr).sqrt().unsqueeze(-1) * u
        >>> reverse = ReverseDiffusion(of_normal_data, steps, size=2)
        >>> reverse.log_prob(reverse.sample((7,))).shape
        torch.Size([7])

    References:
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, arXiv:2006.11239
        Bao, Li, Zhu and Zhang, Analytic-DPM: an analytic estimate of the optimal reverse variance, 2022,
        arXiv:2201.06503
    """

    arg_constraints: Any = {}
    support: Any = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        denoise: Denoiser,
        steps: DiffusionSteps,
        size: int,
        end_variance: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"ReverseDiffusion: size must be an integer of at least 1, got {size!r}")
        self.denoise, self.steps, self.end_variance = denoise, steps, end_variance
        super().__init__(torch.Size(), torch.Size((len(steps.log_snr), size)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ReverseDiffusion":
        new: Any = self._get_checked_instance(ReverseDiffusion, _instance)
        new.denoise, new.steps, new.end_variance = self.denoise, self.steps, self.end_variance
        dist.TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        steps, (T, Z) = self.steps, self.event_shape
        shape = (T, *self._extended_shape(torch.Size(sample_shape))[:-2], Z)
        noise = torch.randn(shape, dtype=steps.alpha.dtype, device=steps.alpha.device)
        chain = [self.end_variance**0.5 * noise[T - 1]]
        for i in range(T - 1, 0, -1):
            mean = self._mean(chain[0], i)
            chain.insert(0, mean + steps.variance[i].sqrt() * noise[i - 1])
        return torch.stack(chain, -2)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        steps = self.steps
        log_p = _normal(value[..., -1, :], self.end_variance**0.5)
        if len(steps.alpha) > 1:
            mean = self._mean(value[..., 1:, :], slice(1, None))
            log_p = log_p + _normal(value[..., :-1, :] - mean, steps.variance[1:, None].sqrt()).sum(-1)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    def _mean(self, u: Tensor, step: int | slice) -> Tensor:
        """The mean of u_{i-1} given u_i (..., Z), or (..., T', Z) of several steps."""
        steps = self.steps
        log_snr = steps.log_snr[step].expand(u.shape[:-1])
        return steps.keep[step].unsqueeze(-1) * u + steps.pull[step].unsqueeze(-1) * self.denoise(u, log_snr)


def _normal(away: Tensor, scale: Tensor | float) -> Tensor:
    """log N(away; 0, scale^2), summed over the last dimension."""
    return Normal(torch.zeros_like(away), scale, validate_args=False).log_prob(away).sum(-1)
