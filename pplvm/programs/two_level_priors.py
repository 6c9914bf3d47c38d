"""Priors over codes at two levels: the coarse codes first, then the finer ones given these.

uniform       N log K nats for any codes of either level
pixelcnn      gated PixelCNNs, of the finer codes given a map of the coarse ones
transformer   causal transformers, of the finer codes given that map, position by position
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import pyro.distributions as dist
from torch import Tensor, nn

from pplvm.distributions.code_prior import CodePrior
from pplvm.networks.causal_transformer import CausalTransformer
from pplvm.networks.pixelcnn import PixelCNN
from pplvm.networks.two_levels import CodesAbove
from pplvm.programs.code_priors import UniformCodePrior, code_prior_named
from pplvm.programs.pixelcnn_prior import codes_by
from pplvm.programs.sizes import require_sizes
from pplvm.programs.transformer_prior import codes_by_transformer

__all__ = [
    "ClassConditionalBelow",
    "CodesBelow",
    "PixelCNNBelow",
    "TransformerBelow",
    "TwoLevelPrior",
    "UniformBelow",
    "two_level_prior_named",
]

MAP_CHANNELS = 32
"""Channels of the map by which the finer codes know of the coarse ones."""


class TwoLevelPrior(nn.Module):
    """The prior of coarse codes, and that of finer codes given them: p(top) p(bottom | top).

    Arguments:
        top: called, gives a distribution with event (N, K) of the coarse grid.
        bottom: called with coarse codes (..., N, K), gives one with event (N', K') of the finer grid.

    Of labels y, top(y) and bottom(codes, y) are called with them where they take them.

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
    """All grids of finer codes alike, whatever the coarse ones.

    Arguments:
        num_codes, grid: as of `UniformCodePrior`.
    """

    def forward(self, above: Tensor) -> dist.TorchDistribution:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward()


class CodesBelow(nn.Module, ABC):
    """A distribution over finer codes given a map that is made of the coarse ones; children implement `given_map`.

    Arguments:
        above: from coarse codes (..., N, K) to a map (..., C, h, w) on the finer grid.
    """

    def __init__(self, above: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.above = above

    def forward(self, above: Tensor) -> CodePrior:
        return self.given_map(self.above(above))

    @abstractmethod
    def given_map(self, of_above: Tensor) -> CodePrior:
        """The distribution, batch shape (...), given a map (..., C, h, w)."""


class PixelCNNBelow(CodesBelow):
    """A gated PixelCNN over the finer codes, whose layers are given a map of the coarse ones.

    Arguments:
        network: with K' inputs and outputs on the finer grid, and context_channels C.
        above: as of `CodesBelow`.

    Example:
        >>> import torch
        >>> network = PixelCNN(8, 8, grid=(2, 2), channels=5, kernel_sizes=(3,), context_channels=6)
        >>> prior = PixelCNNBelow(network, CodesAbove(4, (2, 2), (1, 1), channels=6))
        >>> p = prior(torch.eye(4)[:3, None])  # of 3 data
        >>> p.batch_shape, p.event_shape
        (torch.Size([3]), torch.Size([4, 8]))

    References:
        Razavi, van den Oord and Vinyals, Generating diverse high-fidelity images with VQ-VAE-2, 2019, arXiv:1906.00446
        van den Oord et al., Conditional image generation with PixelCNN decoders, 2016, arXiv:1606.05328
    """

    def __init__(self, network: PixelCNN, above: Callable[[Tensor], Tensor]) -> None:
        super().__init__(above)
        self.network = network

    def given_map(self, of_above: Tensor) -> CodePrior:
        return codes_by(self.network, self.network.project(of_above))


class TransformerBelow(CodesBelow):
    """A causal transformer over the finer codes, to whose positions a map of the coarse ones is added.

    Arguments:
        network: of K' codes at N' positions, with context_size C.
        above: as of `CodesBelow`.

    Example:
        >>> import torch
        >>> network = CausalTransformer(8, 4, width=4, num_layers=1, num_heads=1, context_size=6)
        >>> prior = TransformerBelow(network, CodesAbove(4, (2, 2), (1, 1), channels=6))
        >>> prior(torch.eye(4)[:3, None]).sample().shape  # of 3 data
        torch.Size([3, 4, 8])

    References:
        Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762
    """

    def __init__(self, network: CausalTransformer, above: Callable[[Tensor], Tensor]) -> None:
        super().__init__(above)
        self.network = network

    def given_map(self, of_above: Tensor) -> CodePrior:
        return codes_by_transformer(self.network, self.network.project(of_above.flatten(-2).mT))


class ClassConditionalBelow(nn.Module):
    """Finer codes given the coarse ones and the class: what is learned of a class is added to the map, everywhere.

    Arguments:
        below: the distribution given a map.
        num_classes: of labels 0 to num_classes - 1.
        channels: C of the map.
    """

    def __init__(self, below: CodesBelow, num_classes: int, channels: int) -> None:
        super().__init__()
        self.below, self.classes = below, nn.Embedding(num_classes, channels)

    def forward(self, above: Tensor, labels: Tensor) -> CodePrior:
        return self.below.given_map(self.below.above(above) + self.classes(labels)[..., None, None])


def two_level_prior_named(
    name: str,
    grid: Sequence[int],
    top_grid: Sequence[int],
    num_codes: int,
    num_classes: int | None = None,
    width: int = 64,
    num_layers: int = 4,
    dropout: float = 0.0,
) -> TwoLevelPrior:
    """The prior over codes at two levels that has this name.

    Arguments:
        name: "uniform", "pixelcnn" or "transformer".
        grid, top_grid: (h, w) of the finer and of the coarse codes.
        num_codes: K, of each level.
        num_classes: of labels that both levels take; None for a prior without.
        width, num_layers, dropout: of the network of either level; width is that of all its layers.

    Raises:
        ValueError: there is no such prior, or it takes no labels; the grid is not halved to the coarse one; a size is
            below 1.

    Example:
        >>> two_level_prior_named("pixelcnn", (4, 4), (2, 2), num_codes=8, width=16).top().event_shape
        torch.Size([4, 8])
    """
    if name not in NAMED:
        raise ValueError(f"prior must be {' or '.join(map(repr, NAMED))}, got {name!r}")
    if num_classes is not None and name == "uniform":
        others = " or ".join(repr(other) for other in NAMED if other != name)
        raise ValueError(f"the {name!r} prior takes no labels: leave them out, or let prior be {others}")
    for word, size in (("prior_width", width), ("prior_layers", num_layers)):
        require_sizes("vq_vae_2", word, [size])
    settings = NAMED[name].settings(width, num_layers, dropout)
    top = code_prior_named(name, top_grid, num_codes, num_classes, **settings)
    below = NAMED[name].below(num_codes, grid, top_grid, settings)
    if num_classes is not None:
        below = ClassConditionalBelow(below, num_classes, MAP_CHANNELS)
    return TwoLevelPrior(top, below)


class _Named(NamedTuple):
    """A family of priors: what its networks are called with, and the distribution of the finer codes."""

    settings: Callable[[int, int, float], dict[str, Any]]
    below: Callable[[int, Sequence[int], Sequence[int], dict[str, Any]], nn.Module]


def _pixelcnn(num_codes: int, grid: Sequence[int], top_grid: Sequence[int], settings: dict[str, Any]) -> PixelCNNBelow:
    above = CodesAbove(num_codes, grid, top_grid, MAP_CHANNELS)
    return PixelCNNBelow(PixelCNN(num_codes, num_codes, grid, context_channels=MAP_CHANNELS, **settings), above)


def _transformer(
    num_codes: int, grid: Sequence[int], top_grid: Sequence[int], settings: dict[str, Any]
) -> TransformerBelow:
    above = CodesAbove(num_codes, grid, top_grid, MAP_CHANNELS)
    network = CausalTransformer(num_codes, prod(grid), context_size=MAP_CHANNELS, **settings)
    return TransformerBelow(network, above)


NAMED = {
    "uniform": _Named(
        lambda width, layers, dropout: {}, lambda num_codes, grid, *unused: UniformBelow(num_codes, grid)
    ),
    "pixelcnn": _Named(
        lambda width, layers, dropout: {
            "channels": width,
            "kernel_sizes": (5, *[3] * (layers - 1)),
            "dropout": dropout,
        },
        _pixelcnn,
    ),
    "transformer": _Named(
        lambda width, layers, dropout: {"width": width, "num_layers": layers, "dropout": dropout}, _transformer
    ),
}
