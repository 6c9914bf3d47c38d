"""A residual network that estimates a vector from a noisy copy of it, given how noisy that is."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pplvm.networks.zero_start import zero_

__all__ = ["DenoisingMLP"]


class DenoisingMLP(nn.Module):
    """The estimate uhat of u from u_t = alpha u + sigma noise, with alpha^2 + sigma^2 = 1.

        uhat = alpha u_t - sigma v(u_t, log_snr)

    The network v starts at 0, where uhat is E[u | u_t] of u ~ N(0, I).

    Arguments:
        size: Z, of a vector.
        hidden_sizes: widths of its hidden layers.

    Raises:
        ValueError: a size is below 1, or there is no hidden layer.

    Example:
        >>> denoise = DenoisingMLP(4, hidden_sizes=(8,))
        >>> denoise(torch.ones(3, 5, 4), torch.zeros(5))[0, 0]
        tensor([0.7071, 0.7071, 0.7071, 0.7071], grad_fn=<SelectBackward0>)

    References:
        Salimans and Ho, Progressive distillation for fast sampling of diffusion models, 2022, arXiv:2202.00512
        (the parametrization by v)
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630
    """

    frequencies: Tensor

    def __init__(self, size: int, hidden_sizes: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        if size < 1 or not hidden_sizes or min(hidden_sizes) < 1:
            raise ValueError(
                f"DenoisingMLP: size must be at least 1 and hidden_sizes the widths of hidden layers, such as 128,128, "
                f"got {size} and {tuple(hidden_sizes)}"
            )
        self.register_buffer("frequencies", math.pi / 16 * torch.arange(1, 5))  # waves over 8 to 32 nats of log SNR
        sizes = [size, *hidden_sizes]
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.layers = nn.ModuleList(nn.Linear(narrow, wide) for narrow, wide in pairs)
        self.of_noise = nn.ModuleList(nn.Linear(1 + 2 * 4, wide) for _, wide in pairs)
        self.activation = nn.SiLU()
        self.last = nn.Linear(sizes[-1], size)
        zero_(self.last)

    def forward(self, noisy: Tensor, log_snr: Tensor) -> Tensor:
        """The estimate (..., Z) from noisy vectors (..., Z) and their log signal-to-noise ratios (...)."""
        waves = self.frequencies * log_snr.unsqueeze(-1)
        noise = torch.cat([log_snr.unsqueeze(-1) / 8, waves.sin(), waves.cos()], -1)
        h = noisy
        for layer, of_noise in zip(self.layers, self.of_noise, strict=True):
            h = self.activation(layer(h) + of_noise(noise))
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        return alpha.unsqueeze(-1) * noisy - sigma.unsqueeze(-1) * self.last(h)
