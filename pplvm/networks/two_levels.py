"""Convolutional networks of images with codes at two levels, a coarse grid above a finer one.

TwoLevelEncoder     image -> features on the finer grid, vectors on the coarse one
TwoLevelRefinement  features, vectors of the coarse codes -> vectors on the finer grid
TwoLevelDecoder     vectors of the codes of both -> image
CodesAbove          coarse codes -> a context on the finer grid

Vectors of a grid (h, w) are (..., N, D), N = h w, row by row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pplvm.networks.convolutional import scale_sizes
from pplvm.networks.image_layers import Downsampling, ImageLayer, ResidualConvolution, Upsampling, convolution

__all__ = ["CodesAbove", "TwoLevelDecoder", "TwoLevelEncoder", "TwoLevelRefinement", "halvings"]

NARROWEST = 8
"""Channels of the finest scale at least."""


def halvings(size: Sequence[int], grid: Sequence[int], what: str) -> list[tuple[int, int]]:
    """Height and width from a size down to a grid, each half of the one before, rounded up.

    Arguments:
        size: (H, W).
        grid: (h, w), smaller.
        what: to name in the message, the argument and what is halved.

    Raises:
        ValueError: no halving of the size is the grid.

    Example:
        >>> halvings((28, 28), (7, 7), "grid: an image")
        [(28, 28), (14, 14), (7, 7)]
    """
    sizes = scale_sizes((size[0], size[1]), max(*size).bit_length())
    sizes = sizes[: sizes.index((1, 1)) + 1]
    if tuple(grid) not in sizes[1:]:
        told = ", ".join(f"{h}x{w}" for h, w in sizes[1:]) or "none"
        asked = "x".join(map(str, grid))
        raise ValueError(
            f"{what} of {size[0]}x{size[1]} is halved to one of the grids {told}, and {asked} is not among them"
        )
    return sizes[: sizes.index((grid[0], grid[1])) + 1]


class TwoLevelEncoder(nn.Module):
    """Images to features on the finer grid and vectors on the coarse one, by halving and residual blocks.

    Arguments:
        data_shape: (C, H, W), of data (B, C, H, W), or flattened (B, C H W).
        grid, top_grid: (h, w) of the finer and of the coarse grid.
        top_size: D of the vectors.
        channels: of both grids; half as many at each finer scale of the image.
        num_blocks: residual blocks on each grid.

    Raises:
        ValueError: the image cannot be halved to the grid, or the grid to the coarse one.

    Example:
        >>> encoder = TwoLevelEncoder((1, 8, 8), grid=(4, 4), top_grid=(2, 2), top_size=3, channels=16)
        >>> [found.shape for found in encoder(torch.zeros(5, 1, 8, 8))]
        [torch.Size([5, 16, 4, 4]), torch.Size([5, 4, 3])]
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        grid: Sequence[int],
        top_grid: Sequence[int],
        top_size: int,
        channels: int = 64,
        num_blocks: int = 1,
    ) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        to_grid = len(halvings(data_shape[1:], grid, "grid: an image")) - 1
        to_top = len(halvings(grid, top_grid, "top_grid: the grid")) - 1
        self.features = _Layers(*_downwards(data_shape[0], channels, to_grid), *_blocks(channels, num_blocks))
        widths = [channels] * to_top
        layers = [layer for width in widths for layer in (nn.SiLU(), Downsampling(width, width))]
        last = convolution(channels, top_size, 1)
        self.top = _Layers(*layers, *_blocks(channels, num_blocks), nn.SiLU(), last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x.reshape(len(x), *self.data_shape))
        return features, _as_vectors(self.top(features))


class TwoLevelRefinement(nn.Module):
    """Vectors on the finer grid, of its features and of the vectors of the coarse codes.

    Arguments:
        grid, top_grid: as of `TwoLevelEncoder`.
        top_size, code_size: D of the vectors on the coarse grid, and on the finer one.
        channels, num_blocks: as of `TwoLevelEncoder`.

    Example:
        >>> refine = TwoLevelRefinement((4, 4), (2, 2), top_size=3, code_size=6, channels=16)
        >>> refine(torch.zeros(5, 16, 4, 4), torch.zeros(7, 5, 4, 3)).shape
        torch.Size([7, 5, 16, 6])
    """

    def __init__(
        self,
        grid: Sequence[int],
        top_grid: Sequence[int],
        top_size: int,
        code_size: int,
        channels: int = 64,
        num_blocks: int = 1,
    ) -> None:
        super().__init__()
        self.top_grid = tuple(top_grid)
        self.upwards = _Layers(Upsampling(top_size, channels, (grid[0], grid[1])))
        last = convolution(channels, code_size, 1)
        self.both = _Layers(convolution(2 * channels, channels), *_blocks(channels, num_blocks), nn.SiLU(), last)

    def forward(self, features: Tensor, top: Tensor) -> Tensor:
        return _as_vectors(self.both(_side_by_side(features, self.upwards(_as_map(top, self.top_grid)))))


class TwoLevelDecoder(nn.Module):
    """Vectors of the coarse and of the finer codes to an image, (..., N, D) each.

    Arguments:
        out_shape: (C, H, W) of the output: with as many channels as the likelihood has numbers for a pixel.
        grid, top_grid, top_size, code_size, channels, num_blocks: as of `TwoLevelRefinement`.

    Its `bias`, of shape out_shape, is added to the output: it may start at the mean of the data.

    Example:
        >>> decoder = TwoLevelDecoder((1, 8, 8), (4, 4), (2, 2), top_size=3, code_size=6, channels=16)
        >>> decoder(torch.zeros(7, 5, 4, 3), torch.zeros(7, 5, 16, 6)).shape
        torch.Size([7, 5, 1, 8, 8])
    """

    def __init__(
        self,
        out_shape: Sequence[int],
        grid: Sequence[int],
        top_grid: Sequence[int],
        top_size: int,
        code_size: int,
        channels: int = 64,
        num_blocks: int = 1,
    ) -> None:
        super().__init__()
        self.grid, self.top_grid = tuple(grid), tuple(top_grid)
        sizes = halvings(out_shape[1:], grid, "grid: an image")
        self.upwards = _Layers(Upsampling(top_size, code_size, (grid[0], grid[1])))
        first = convolution(2 * code_size, channels)
        self.both = _Layers(first, *_blocks(channels, num_blocks), nn.SiLU(), *_upwards(channels, out_shape[0], sizes))
        self.bias = nn.Parameter(torch.zeros(tuple(out_shape)))

    def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
        both = _side_by_side(self.upwards(_as_map(top, self.top_grid)), _as_map(bottom, self.grid))
        return self.both(both) + self.bias


class CodesAbove(nn.Module):
    """A context on the finer grid from the one-hot codes (..., N, K) of the coarse one: (..., channels, h, w).

    Arguments:
        num_codes: K.
        grid, top_grid: (h, w) of the finer and of the coarse grid.
        channels: of the context.
        num_blocks: residual blocks on the coarse grid.

    Example:
        >>> CodesAbove(8, (4, 4), (2, 2), channels=16)(torch.eye(8)[:4]).shape
        torch.Size([16, 4, 4])
    """

    def __init__(
        self, num_codes: int, grid: Sequence[int], top_grid: Sequence[int], channels: int = 32, num_blocks: int = 1
    ) -> None:
        super().__init__()
        self.top_grid = tuple(top_grid)
        up = Upsampling(channels, channels, (grid[0], grid[1]))
        first = convolution(num_codes, channels)
        self.layers = _Layers(first, *_blocks(channels, num_blocks), nn.SiLU(), up)

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(_as_map(codes, self.top_grid))


class _Layers(ImageLayer):
    """Layers one after another, between which leading dimensions stay flattened."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _downwards(in_channels: int, channels: int, count: int) -> list[nn.Module]:
    """Halvings by `count`, with twice as many channels at each, up to `channels`."""
    widths = [in_channels, *_widths(channels, count)[::-1]]
    layers: list[nn.Module] = []
    for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
        layers += [Downsampling(narrow, wide), nn.SiLU()]
    return layers[:-1]


def _upwards(channels: int, out_channels: int, sizes: list[tuple[int, int]]) -> list[nn.Module]:
    """From the last of the sizes up to the first, the same channels in reverse."""
    widths = [*_widths(channels, len(sizes) - 1), out_channels]
    layers: list[nn.Module] = []
    for wide, narrow, size in zip(widths[:-1], widths[1:], sizes[-2::-1], strict=True):
        layers += [Upsampling(wide, narrow, size), nn.SiLU()]
    return layers[:-1]


def _widths(channels: int, count: int) -> list[int]:
    return [max(channels >> i, min(NARROWEST, channels)) for i in range(count)]


def _blocks(channels: int, count: int) -> list[ResidualConvolution]:
    return [ResidualConvolution(channels, squeeze_excitation=False) for _ in range(count)]


def _side_by_side(*maps: Tensor) -> Tensor:
    """Maps (..., C, h, w) with the channels of all, leading dimensions broadcast."""
    left = torch.broadcast_shapes(*(each.shape[:-3] for each in maps))
    return torch.cat([each.expand(*left, *each.shape[-3:]) for each in maps], -3)


def _as_vectors(maps: Tensor) -> Tensor:
    return maps.flatten(-2).transpose(-1, -2)  # (..., D, h, w) -> (..., N, D)


def _as_map(vectors: Tensor, grid: tuple[int, ...]) -> Tensor:
    return vectors.transpose(-1, -2).unflatten(-1, grid)
