"""The steps of a Gaussian diffusion with T noisy latents, from their log signal-to-noise ratios.

u_i = alpha_i u + sigma_i noise,     alpha_i^2 + sigma_i^2 = 1,     log_snr_i = log(alpha_i^2 / sigma_i^2), falling in i

q(u_{i-1} | u_i, u) = N(keep_i u_i + pull_i u, posterior_i),     u_0 = u
p(u_{i-1} | u_i)    = N(keep_i u_i + pull_i uhat(u_i), variance_i)
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DiffusionSteps", "datum_variance", "diffusion_steps"]


class DiffusionSteps(NamedTuple):
    """Coefficients of all T steps, (T,) each; step 0 leads from the first noisy latent to the datum itself."""

    log_snr: Tensor
    alpha: Tensor
    sigma: Tensor
    keep: Tensor  # of u_i in the mean of u_{i-1}
    pull: Tensor  # of the datum, or of its estimate
    posterior: Tensor  # variance of q(u_{i-1} | u_i, u); 0 in step 0
    variance: Tensor  # of p(u_{i-1} | u_i)


def diffusion_steps(log_snr: Tensor, datum_variances: Tensor) -> DiffusionSteps:
    """Coefficients of the steps between noisy latents.

        pull_i = alpha_{i-1} (1 - snr_i / snr_{i-1}),   keep_i = (alpha_{i-1} / alpha_i) snr_i / snr_{i-1}
        posterior_i = sigma_{i-1}^2 (1 - snr_i / snr_{i-1}),   variance_i = posterior_i + pull_i^2 v_i

    The variance is the true one of p(u_{i-1} | u_i) where v_i is that of a datum given u_i; where v_i is 0 it is the
    posterior's, the smaller choice of Ho et al.

    Arguments:
        log_snr: (T,), falling.
        datum_variances: v, (T,), of a datum given each noisy latent; not negative.

    Example:
        >>> log_snr = torch.linspace(4, -4, 3)
        >>> steps = diffusion_steps(log_snr, datum_variance(log_snr))
        >>> steps.pull[0], steps.keep[0], steps.posterior[0]
        (tensor(1.), tensor(0.), tensor(0.))

    References:
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, arXiv:2006.11239
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630
    """
    alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    left = torch.cat([torch.ones_like(alpha[:1]), alpha[:-1]])  # alpha_{i-1}
    noise = torch.cat([torch.zeros_like(sigma[:1]), sigma[:-1]])
    lost = torch.cat([torch.ones_like(alpha[:1]), -torch.expm1(log_snr[1:] - log_snr[:-1])])  # 1 - snr_i / snr_{i-1}
    kept = torch.cat([torch.zeros_like(alpha[:1]), (log_snr[1:] - log_snr[:-1]).exp()])
    pull, posterior = left * lost, noise.square() * lost
    return DiffusionSteps(
        log_snr, alpha, sigma, left / alpha * kept, pull, posterior, posterior + pull.square() * datum_variances
    )


def datum_variance(log_snr: Tensor, prior_variance: float = 1.0) -> Tensor:
    """The variance of a datum given its noisy latent where data are N(0, v): v / (1 + v snr).

    Example:
        >>> datum_variance(torch.zeros(1))
        tensor([0.5000])
    """
    return prior_variance / (1 + prior_variance * log_snr.exp())
