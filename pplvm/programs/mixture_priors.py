"""Priors of variational autoencoders that are mixtures: learned Gaussians, or the posteriors of learned data.

MixtureOfGaussiansPrior   p(z) = sum_c w_c N(z; m_c, diag(s_c^2))
VampPrior                 p(z) = mean_c q(z | u_c)
"""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.mixture_prior import MixturePrior
from pplvm.programs.parts import diagonal_normal

__all__ = ["MixtureOfGaussiansPrior", "VampPrior"]

MARGIN = 0.01
"""Of the range of the data, by which pseudo-inputs start inside their bounds, where a clamp has no slope."""


class MixtureOfGaussiansPrior(nn.Module):
    """A learned mixture of diagonal Gaussians, whose means start apart, as draws of N(0, I).

        p(z) = sum_c w_c N(z; m_c, diag(s_c^2))

    Arguments:
        latent_size: Z.
        num_components: C.

    Raises:
        ValueError: there are no components.

    Example:
        >>> MixtureOfGaussiansPrior(latent_size=3, num_components=5)().log_prob(torch.zeros(7, 3)).shape
        torch.Size([7])
    """

    def __init__(self, latent_size: int, num_components: int = 100) -> None:
        super().__init__()
        if num_components < 1:
            raise ValueError(f"MixtureOfGaussiansPrior: num_components must be at least 1, got {num_components}")
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.locs = nn.Parameter(torch.randn(num_components, latent_size))
        self.log_scales = nn.Parameter(torch.zeros(num_components, latent_size))

    def forward(self) -> dist.TorchDistribution:
        components = dist.Normal(self.locs, self.log_scales.exp()).to_event(1)
        return MixturePrior(components, self.logits)


class VampPrior(nn.Module):
    """The mean of the posteriors of C learned pseudo-inputs, with the encoder of the guide itself.

        p(z) = 1/C sum_c q(z | u_c)

    With all data as pseudo-inputs it is the aggregate posterior, the prior of the highest elbo. The encoder runs on the
    pseudo-inputs once a call, and learns from both roles: its parameters are the guide's and the model's. Pseudo-inputs
    are clamped to `bounds`, with the gradient of the clamp: none for a pixel that has left them, which stays at its
    bound, so that all start a hundredth of the range within.

    Arguments:
        encoder: x (C, *shape) to a distribution of batch (C,), or to loc and log scale (C, 2 Z); the guide's own.
        pseudo_inputs: (C, *shape), where they start, such as some of the data.
        bounds: of the data; None for data without.

    Raises:
        ValueError: there are no pseudo-inputs.

    Example:
        >>> from pplvm.networks.dense import MLP
        >>> prior = VampPrior(MLP(6, 4), torch.rand(9, 6))
        >>> prior().log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])

    References:
        Tomczak and Welling, VAE with a VampPrior, 2018, arXiv:1705.07120
    """

    def __init__(
        self,
        encoder: Callable[[Tensor], Any],
        pseudo_inputs: Tensor,
        bounds: tuple[float, float] | None = (0.0, 1.0),
    ) -> None:
        super().__init__()
        if not len(pseudo_inputs):
            raise ValueError("VampPrior: there are no pseudo-inputs: give at least one, such as some of the data")
        self.encoder, self.bounds = encoder, bounds
        if bounds is not None:
            low, high = bounds
            margin = MARGIN * (high - low)
            pseudo_inputs = pseudo_inputs.clamp(low + margin, high - margin)
        started = torch.empty(pseudo_inputs.shape)  # of the default device and dtype, as every parameter
        self.pseudo_inputs = nn.Parameter(started.copy_(pseudo_inputs.detach()))

    def forward(self) -> dist.TorchDistribution:
        u = self.pseudo_inputs if self.bounds is None else self.pseudo_inputs.clamp(*self.bounds)
        found = self.encoder(u)
        return MixturePrior(diagonal_normal(found) if isinstance(found, Tensor) else found)
