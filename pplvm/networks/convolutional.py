"""Convolutional encoder and decoder of images, with residual blocks at each scale.

encoder   image -> [stride 2, blocks] for each scale -> linear
decoder   linear -> [blocks, upsampling] for each scale -> image
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pplvm.networks.image_layers import Downsampling, ImageLayer, ResidualConvolution, Upsampling

__all__ = ["ConvolutionalDecoder", "ConvolutionalEncoder", "checked_sizes", "residual_blocks", "scale_sizes"]


def scale_sizes(size: tuple[int, int], num_scales: int) -> list[tuple[int, int]]:
    """Height and width at each scale, the finest first, each half of the one before, rounded up.

    Arguments:
        size: (H, W).
        num_scales: number of halvings.

    Example:
        >>> scale_sizes((28, 28), 2)
        [(28, 28), (14, 14), (7, 7)]
    """
    sizes = [size]
    for _ in range(num_scales):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


class ConvolutionalEncoder(ImageLayer):
    """Images to a vector each, (..., C, H, W) -> (..., out_size), by residual blocks at each scale.

    Arguments:
        data_shape: (C, H, W).
        out_size: of the vector.
        channels: of each scale, which begins with a convolution of stride 2.
        num_blocks: residual blocks at each scale.
        squeeze_excitation, weight_norm: of the blocks, as of `ResidualConvolution`.

    Raises:
        ValueError: data_shape is not (C, H, W); channels are none, or below 1; the image cannot be halved so often.

    Example:
        >>> ConvolutionalEncoder((1, 8, 8), 6, channels=(4, 8))(torch.zeros(3, 5, 1, 8, 8)).shape
        torch.Size([3, 5, 6])
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        out_size: int,
        channels: Sequence[int] = (32, 64),
        num_blocks: int = 1,
        *,
        squeeze_excitation: bool = True,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = checked_sizes("ConvolutionalEncoder", data_shape, channels, num_blocks)
        layers: list[nn.Module] = []
        for narrow, wide in zip([data_shape[0], *channels[:-1]], channels, strict=True):
            layers.append(Downsampling(narrow, wide, weight_norm))
            layers += residual_blocks(wide, num_blocks, len(channels), squeeze_excitation, weight_norm)
        self.layers = nn.Sequential(*layers, nn.SiLU())
        self.last = nn.Linear(channels[-1] * math.prod(sizes[-1]), out_size)

    def of_batch(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x).flatten(1))


class ConvolutionalDecoder(nn.Module):
    """A vector to an image each, (..., in_size) -> (..., *out_shape), by residual blocks at each scale.

    Arguments:
        in_size: of the vector.
        out_shape: (C, H, W) of the output: with as many channels as the likelihood has numbers for a pixel.
        channels, num_blocks, squeeze_excitation, weight_norm: as of the `ConvolutionalEncoder` that it mirrors.

    Its `bias`, of shape out_shape, is added to the output: it may start at the mean of the data.

    Raises:
        ValueError: as of `ConvolutionalEncoder`.

    Example:
        >>> ConvolutionalDecoder(6, (1, 8, 8), channels=(4, 8))(torch.zeros(3, 5, 6)).shape
        torch.Size([3, 5, 1, 8, 8])
    """

    def __init__(
        self,
        in_size: int,
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        num_blocks: int = 1,
        *,
        squeeze_excitation: bool = True,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = checked_sizes("ConvolutionalDecoder", out_shape, channels, num_blocks)
        self.first = nn.Linear(in_size, channels[-1] * math.prod(sizes[-1]))
        self.small_shape = (channels[-1], *sizes[-1])
        layers: list[nn.Module] = []
        wide_to_narrow = list(zip(channels[::-1], [*channels[-2::-1], out_shape[0]], strict=True))
        for (wide, narrow), size in zip(wide_to_narrow, sizes[-2::-1], strict=True):
            layers += residual_blocks(wide, num_blocks, len(channels), squeeze_excitation, weight_norm)
            layers += [nn.SiLU()] if size == sizes[0] else []
            layers.append(Upsampling(wide, narrow, size, weight_norm))
        self.layers = _OfBatch(*layers)
        self.bias = nn.Parameter(torch.zeros(tuple(out_shape)))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.first(z).unflatten(-1, self.small_shape)) + self.bias


class _OfBatch(ImageLayer):
    """Layers one after another, between which leading dimensions stay flattened."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layers(x)


def residual_blocks(
    channels: int, count: int, num_scales: int, squeeze_excitation: bool, weight_norm: bool
) -> list[ResidualConvolution]:
    """Residual blocks of one scale, whose last weights start the smaller the more blocks there are.

    Arguments:
        count: of blocks at each of the scales.
    """
    scale = 1 / math.sqrt(count * num_scales) if count else 1.0
    kwargs = {"squeeze_excitation": squeeze_excitation, "weight_norm": weight_norm}
    return [ResidualConvolution(channels, scale=scale, **kwargs) for _ in range(count)]


def checked_sizes(name: str, shape: Sequence[int], channels: Sequence[int], num_blocks: int) -> list[tuple[int, int]]:
    """Height and width at each scale, the finest first.

    Arguments:
        name: of the network, in messages.
        shape: (C, H, W) of the image.

    Raises:
        ValueError: the arguments fit no network.
    """
    if len(shape) != 3 or any(not isinstance(size, int) or size < 1 for size in shape):
        raise ValueError(f"{name}: the shape of an image is (C, H, W), each at least 1, got {tuple(shape)}")
    if not channels or any(isinstance(c, bool) or not isinstance(c, int) or c < 1 for c in channels):
        raise ValueError(
            f"{name}: channels must be one number of at least 1 for each scale, such as (32, 64), got {channels!r}"
        )
    if isinstance(num_blocks, bool) or not isinstance(num_blocks, int) or num_blocks < 0:
        raise ValueError(f"{name}: num_blocks must be an integer of at least 0, got {num_blocks!r}")
    sizes = scale_sizes((shape[1], shape[2]), len(channels))
    if sizes[-2] == (1, 1):
        most = next(n for n, size in enumerate(sizes) if size == (1, 1))
        raise ValueError(
            f"{name}: an image of {shape[1]}x{shape[2]} can be halved {most} times, and channels {tuple(channels)} ask "
            f"for {len(channels)}: give at most {most}"
        )
    return sizes
