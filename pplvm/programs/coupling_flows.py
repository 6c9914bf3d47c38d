"""Modules of coupling flows: each holds parameters, and gives the transforms of one pass from noise to values."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Transform

from pplvm.distributions.transforms.activation_normalization import ActivationNormalization
from pplvm.distributions.transforms.affine_coupling import AffineCoupling
from pplvm.distributions.transforms.permutation import Permutation
from pplvm.networks.dense import MLP
from pplvm.networks.zero_start import zero_
from pplvm.programs.sizes import require_sizes

__all__ = ["ActivationNormalizer", "CouplingPrior", "Reordering", "zero_last"]


class CouplingPrior(nn.Module):
    """A RealNVP prior p(z): affine couplings of a standard normal; it starts as N(0, I) exactly.

    Each coupling is followed by a flip of the coordinates, so that both halves move in turn.

    Arguments:
        latent_size: Z, at least 2.
        num_couplings: even, after which each coordinate is at its place again.
        flow_hidden_sizes: widths of each coupling's network.

    Raises:
        ValueError: latent_size is below 2, or num_couplings is not a positive even number.

    Example:
        >>> CouplingPrior(4, num_couplings=2, flow_hidden_sizes=(8,))().event_shape
        torch.Size([4])

    References:
        Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2017, arXiv:1605.08803
    """

    zeros: Tensor

    def __init__(self, latent_size: int, num_couplings: int = 6, flow_hidden_sizes: Sequence[int] = (128,)) -> None:
        super().__init__()
        if latent_size < 2:
            raise ValueError(f"CouplingPrior: latent_size must be at least 2 for a coupling, got {latent_size!r}")
        if num_couplings < 2 or num_couplings % 2:
            raise ValueError(f"CouplingPrior: num_couplings must be a positive even number, got {num_couplings!r}")
        if len(flow_hidden_sizes):
            require_sizes("CouplingPrior", "flow_hidden_sizes", flow_hidden_sizes, "the widths of hidden layers", "128")
        self.size, half = latent_size, latent_size // 2
        networks = [MLP(half, 2 * (latent_size - half), flow_hidden_sizes, nn.SiLU) for _ in range(num_couplings)]
        self.networks = nn.ModuleList(map(zero_last, networks))
        self.flip = Reordering(torch.arange(latent_size).flip(0))
        self.register_buffer("zeros", torch.zeros(latent_size))

    def forward(self) -> dist.TorchDistribution:
        transforms: list[Transform] = []
        for network in self.networks:
            transforms += [AffineCoupling(network, self.size), self.flip()]
        return dist.TransformedDistribution(dist.Normal(self.zeros, 1.0).to_event(1), transforms)


class Reordering(nn.Module):
    """A permutation that a module keeps.

    Arguments:
        order: (D,), as of `Permutation`.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)

    def forward(self) -> Permutation:
        return Permutation(self.order, self.inverse)


class ActivationNormalizer(nn.Module):
    """Shift and scale of each coordinate, parameters that may start from data.

    Arguments:
        size: D.

    Example:
        >>> layer = ActivationNormalizer(2)
        >>> layer.initialise(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
        >>> layer()(torch.tensor([1.0, 3.0]))
        tensor([0., 0.], grad_fn=<MulBackward0>)
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def initialise(self, x: Tensor) -> None:
        """Start at the mean and deviation of vectors (N, D), so that they leave with mean 0 and deviation 1."""
        with torch.no_grad():
            self.loc.copy_(x.mean(0))
            self.log_scale.copy_(x.std(0, correction=0).clamp(min=1e-3).log())

    def forward(self) -> ActivationNormalization:
        return ActivationNormalization(self.loc, self.log_scale)


def zero_last(network: Any) -> Any:
    """A network whose last layer gives zeros, so that its coupling starts as the identity."""
    zero_(network.last)
    return network
