"""Dequantizers: the noise u in (0, 1) that a guide adds to whole numbers k, uniform or learned."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.logistic import Logistic
from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid
from pplvm.programs.split_couplings import SplitCouplings, affine

__all__ = ["FlowDequantizer", "UniformDequantizer"]


class UniformDequantizer(nn.Module):
    """u uniform on (0, 1), independent of k.

    Arguments:
        size: D.

    Example:
        >>> UniformDequantizer(3)(torch.zeros(5, 3)).event_shape
        torch.Size([3])

    References:
        Theis, van den Oord and Bethge, A note on the evaluation of generative models, 2016, arXiv:1511.01844
    """

    zeros: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(size))

    def forward(self, k: Tensor) -> dist.TorchDistribution:
        return dist.Uniform(self.zeros, torch.ones_like(self.zeros)).to_event(1)


class FlowDequantizer(nn.Module):
    """u = sigmoid(v) of a coupling flow v given k; it starts as the uniform one exactly.

    Arguments:
        shape: (D,) of vectors, or (C, H, W) of images; k is flattened.
        levels: k < levels.
        num_couplings: an even number.
        channels: hidden, of each network.

    Raises:
        ValueError: as of `SplitCouplings`.

    Example:
        >>> FlowDequantizer((1, 4, 4), levels=16)(torch.zeros(5, 16)).event_shape
        torch.Size([16])

    References:
        Ho, Chen, Srinivas, Duan and Abbeel, Flow++: improving flow-based generative models with variational
        dequantization and architecture design, 2019, arXiv:1902.00275
    """

    zeros: Tensor

    def __init__(self, shape: Sequence[int], levels: int, num_couplings: int = 4, channels: int = 16) -> None:
        super().__init__()
        self.couplings = SplitCouplings(shape, num_couplings, affine(), channels, conditional=True)
        self.levels = levels
        self.register_buffer("zeros", torch.zeros(self.couplings.size))

    def forward(self, k: Tensor) -> dist.TorchDistribution:
        chain = self.couplings(2 * k / (self.levels - 1) - 1)
        noise = Logistic(self.zeros.expand(k.shape), 1.0).to_event(1)
        return dist.TransformedDistribution(noise, [*(t.inv for t in reversed(chain)), ScaledSigmoid()])
