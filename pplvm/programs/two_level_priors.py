"""Priors over codes at two levels: the coarse codes first, then the finer ones given these.

uniform     N log K nats for any codes of either level
pixelcnn    gated PixelCNNs, of the finer codes given a map of the coarse ones
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import pyro.distributions as dist
from pplvm.distributions.code_prior import CodePrior
from pplvm.networks.pixelcnn import PixelCNN
from pplvm.networks.two_levels import CodesAbove
from pplvm.programs.code_priors import UniformCodePrior

__all__ = ["PixelCNNBelow", "TwoLevelPrior", "UniformBelow"]


class TwoLevelPrior(nn.Module):
    """The prior of coarse codes, and that of finer codes given them: p(v_top) p(v_bottom | v_top).

    Arguments:
        top: called, gives a distribution with event (N, K) of the coarse grid.
        bottom: called with coarse codes (..., N, K), gives one with event (N', K') of the finer grid.

    Of labels y, top(y) and bottom(v, y) are called with them where they take them.

    Example:
        >>> prior = TwoLevelPrior(UniformCodePrior(4, (1, 1)), UniformBelow(8, (2, 2)))
        >>> prior.bottom(prior.top().sample()).event_shape
        torch.Size([4, 8])
    """

    def __init__(
        self, top: Callable[..., dist.TorchDistribution], bottom: Callable[..., dist.TorchDistribution]
    ) -> None:
        super().__init__()
        self.top, self.bottom = top, bottom


class UniformBelow(UniformCodePrior):
    """All grids of finer codes alike, whatever the coarse ones: of a number of codes and a grid."""

    def forward(self, above: Tensor) -> dist.TorchDistribution:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward()


class PixelCNNBelow(nn.Module):
    """A gated PixelCNN over the finer codes, which is given a map of the coarse ones.

    Arguments:
        num_codes: K' of the finer codes.
        grid: (h, w) of these.
        above: from coarse codes (..., N, K) to a map (..., C, h, w).
        above_channels: C.
        channels, kernel_sizes, dropout: as of `PixelCNN`.

    Example:
        >>> prior = PixelCNNBelow(8, (2, 2), CodesAbove(4, (2, 2), (1, 1), channels=6), 6, channels=5, kernel_sizes=(3,))
        >>> p = prior(torch.eye(4)[:3, None])  # of 3 data
        >>> p.batch_shape, p.event_shape
        (torch.Size([3]), torch.Size([4, 8]))

    References:
        Razavi, van den Oord and Vinyals, Generating diverse high-fidelity images with VQ-VAE-2, 2019, arXiv:1906.00446
        van den Oord et al., Conditional image generation with PixelCNN decoders, 2016, arXiv:1606.05328
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        above: Callable[[Tensor], Tensor],
        above_channels: int,
        channels: int = 64,
        kernel_sizes: Sequence[int] = (5, 3, 3, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.above = above
        self.network = PixelCNN(
            num_codes,
            num_codes,
            grid,
            channels,
            kernel_sizes,
            context_channels=above_channels,
            dropout=dropout,
        )
        self.num_codes = num_codes

    def forward(self, above: Tensor) -> CodePrior:
        return self.given_context(self.above(above))

    def given_context(self, context: Tensor) -> CodePrior:
        """The distribution given a map (..., C, h, w)."""
        projected, network = self.network.project(context), self.network
        N = network.grid[0] * network.grid[1]

        def first(shape: torch.Size) -> object:
            rows = projected.expand(*shape, *projected.shape[-4:]).reshape(-1, *projected.shape[-4:])
            return network.init_cache(shape.numel(), rows)

        return CodePrior(
            lambda v: network(v, projected),
            first,
            network.step,
            event_shape=(N, self.num_codes),
            batch_shape=projected.shape[:-4],
        )


class ClassPixelCNNBelow(PixelCNNBelow):
    """The same given the class of the datum too, of labels y (B,).

    Arguments:
        num_classes: C of the labels 0 to C - 1.
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        above: Callable[[Tensor], Tensor],
        above_channels: int,
        num_classes: int,
        channels: int = 64,
        kernel_sizes: Sequence[int] = (5, 3, 3, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_codes, grid, above, 2 * above_channels, channels, kernel_sizes, dropout)
        self.classes = nn.Embedding(num_classes, above_channels)

    def forward(self, above: Tensor, labels: Tensor) -> CodePrior:  # pyright: ignore[reportIncompatibleMethodOverride]
        of_codes = self.above(above)  # (..., C, h, w)
        of_class = self.classes(labels)[..., None, None].expand(*of_codes.shape[:-3], -1, *of_codes.shape[-2:])
        return self.given_context(torch.cat([of_codes, of_class], -3))
