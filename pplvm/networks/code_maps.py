"""Convolutional encoder and decoder between images and vectors on a grid of positions.

CodeMapEncoder   image (..., C, H, W) -> z (..., N, D)
CodeMapDecoder   e (..., N, D) -> image (..., C', H, W)

The grid is the image halved at each scale; N = h w positions, row by row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pplvm.networks.convolutional import checked_sizes, residual_blocks
from pplvm.networks.image_layers import Downsampling, ImageLayer, Upsampling, convolution

__all__ = ["CodeMapDecoder", "CodeMapEncoder"]


class CodeMapEncoder(ImageLayer):
    """Images to a vector at each position of a grid, (..., C, H, W) -> (..., N, D).

    Arguments:
        data_shape: (C, H, W).
        code_size: D.
        channels: of each scale, which begins with a convolution of stride 2; the last is the grid's.
        num_blocks: residual blocks at each scale.

    Raises:
        ValueError: data_shape is not (C, H, W); channels are none, or below 1; the image cannot be halved so often.

    Example:
        >>> CodeMapEncoder((1, 8, 8), 6, channels=(4, 8))(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 4, 6])
    """

    def __init__(
        self, data_shape: Sequence[int], code_size: int, channels: Sequence[int] = (32, 64), num_blocks: int = 1
    ) -> None:
        super().__init__()
        self.grid = checked_sizes("CodeMapEncoder", data_shape, channels, num_blocks)[-1]
        layers: list[nn.Module] = []
        for narrow, wide in zip([data_shape[0], *channels[:-1]], channels, strict=True):
            layers.append(Downsampling(narrow, wide))
            layers += residual_blocks(wide, num_blocks, len(channels), squeeze_excitation=False, weight_norm=False)
        self.layers = nn.Sequential(*layers, nn.SiLU(), convolution(channels[-1], code_size, 1))

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(-2).mT


class CodeMapDecoder(nn.Module):
    """A vector at each position of a grid to an image, (..., N, D) -> (..., *out_shape).

    Arguments:
        code_size: D.
        out_shape: (C, H, W) of the output: with as many channels as the likelihood has numbers for a pixel.
        channels, num_blocks: as of the `CodeMapEncoder` that it mirrors.

    Its `bias`, of shape out_shape, is added to the output: it may start at the mean of the data.

    Raises:
        ValueError: as of `CodeMapEncoder`.

    Example:
        >>> CodeMapDecoder(6, (1, 8, 8), channels=(4, 8))(torch.zeros(3, 5, 4, 6)).shape
        torch.Size([3, 5, 1, 8, 8])
    """

    def __init__(
        self, code_size: int, out_shape: Sequence[int], channels: Sequence[int] = (32, 64), num_blocks: int = 1
    ) -> None:
        super().__init__()
        sizes = checked_sizes("CodeMapDecoder", out_shape, channels, num_blocks)
        self.grid = sizes[-1]
        layers: list[nn.Module] = [convolution(code_size, channels[-1])]
        wide_to_narrow = list(zip(channels[::-1], [*channels[-2::-1], out_shape[0]], strict=True))
        for (wide, narrow), size in zip(wide_to_narrow, sizes[-2::-1], strict=True):
            layers += residual_blocks(wide, num_blocks, len(channels), squeeze_excitation=False, weight_norm=False)
            layers += [nn.SiLU()] if size == sizes[0] else []
            layers.append(Upsampling(wide, narrow, size))
        self.layers = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(tuple(out_shape)))

    def forward(self, e: Tensor) -> Tensor:
        maps = e.mT.unflatten(-1, self.grid)  # (..., D, h, w)
        images = self.layers(maps.reshape(-1, *maps.shape[-3:]))
        return images.reshape(*maps.shape[:-3], *images.shape[1:]) + self.bias
