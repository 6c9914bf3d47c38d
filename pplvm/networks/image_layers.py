"""Layers of convolutional networks: residual blocks, down- and upsampling, squeeze-and-excitation.

All take images with any number of leading dimensions, (..., C, H, W), particles and batch among them, without a loop.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import weight_norm as weight_normalized

__all__ = ["Downsampling", "ImageLayer", "ResidualConvolution", "SqueezeExcitation", "Upsampling", "convolution"]

MOST_GROUPS = 8
"""Groups of a group normalization at most: 32, and 16 channels each, are alike (Wu and He); these nets are narrow."""


class ImageLayer(nn.Module, ABC):
    """A layer for images with any number of leading dimensions; children implement `of_batch`."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            raise ValueError(f"{type(self).__name__}: images are (..., C, H, W), got shape {tuple(x.shape)}")
        images = self.of_batch(x.reshape(-1, *x.shape[-3:]))
        return images.reshape(*x.shape[:-3], *images.shape[1:])

    @abstractmethod
    def of_batch(self, x: Tensor) -> Tensor:
        """The layer for images (N, C, H, W)."""


class ResidualConvolution(ImageLayer):
    """A residual block of two convolutions, x + s SE(conv(act(norm(conv(act(norm(x))))))).

    Arguments:
        channels: C of its input and output, (..., C, H, W) each.
        hidden_channels: between the two convolutions; C unless given.
        kernel_size: odd.
        scale: of the last convolution's weights at the start, 1 / sqrt(blocks) in deep networks.
        group_norm: normalize groups of channels before each activation.
        squeeze_excitation: end with one.
        weight_norm: parametrize each convolution's weight by a length and a direction.

    Raises:
        ValueError: channels or hidden_channels is below 1, or kernel_size is even.

    Example:
        >>> import torch
        >>> ResidualConvolution(8)(torch.zeros(3, 5, 8, 4, 4)).shape
        torch.Size([3, 5, 8, 4, 4])

    References:
        He, Zhang, Ren and Sun, Identity mappings in deep residual networks, 2016, arXiv:1603.05027
        Wu and He, Group normalization, 2018, arXiv:1803.08494
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int | None = None,
        *,
        kernel_size: int = 3,
        scale: float = 1.0,
        group_norm: bool = True,
        squeeze_excitation: bool = True,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        hidden = channels if hidden_channels is None else hidden_channels
        last = convolution(hidden, channels, kernel_size, weight_norm=False)
        last.weight.data.mul_(scale)
        self.layers = nn.Sequential(
            *_normalized(channels, group_norm),
            convolution(channels, hidden, kernel_size, weight_norm=weight_norm),
            *_normalized(hidden, group_norm),
            weight_normalized(last) if weight_norm else last,
            *([SqueezeExcitation(channels)] if squeeze_excitation else []),
        )

    def of_batch(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SqueezeExcitation(ImageLayer):
    """Scale each channel by a number in (0, 1) that depends on the means of all channels.

    Arguments:
        channels: C, (..., C, H, W) -> (..., C, H, W).
        reduction: C over the width of the layer between.

    Example:
        >>> import torch
        >>> SqueezeExcitation(8)(torch.zeros(3, 5, 8, 4, 4)).shape
        torch.Size([3, 5, 8, 4, 4])

    References:
        Hu, Shen, Albanie, Sun and Wu, Squeeze-and-excitation networks, 2018, arXiv:1709.01507
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        narrow = max(channels // reduction, 1)
        self.gates = nn.Sequential(nn.Linear(channels, narrow), nn.SiLU(), nn.Linear(narrow, channels), nn.Sigmoid())

    def of_batch(self, x: Tensor) -> Tensor:
        return x * self.gates(x.mean((-2, -1)))[..., None, None]


class Downsampling(ImageLayer):
    """Halve height and width, rounded up, by a convolution of stride 2: (..., C, H, W) to (..., C', H/2, W/2).

    Arguments:
        in_channels, out_channels: C and C'.
        weight_norm: as of `ResidualConvolution`.

    Example:
        >>> import torch
        >>> Downsampling(1, 8)(torch.zeros(5, 1, 7, 7)).shape
        torch.Size([5, 8, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, weight_norm: bool = False) -> None:
        super().__init__()
        self.layer = convolution(in_channels, out_channels, 3, stride=2, weight_norm=weight_norm)

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Upsampling(ImageLayer):
    """Repeat the nearest pixels to a size, and convolve: (..., C, H, W) to (..., C', *size).

    Unlike a transposed convolution it leaves no checkerboard.

    Arguments:
        in_channels, out_channels: C and C'.
        size: (H', W') of the output.
        weight_norm: as of `ResidualConvolution`.

    Example:
        >>> import torch
        >>> Upsampling(8, 1, (7, 7))(torch.zeros(5, 8, 4, 4)).shape
        torch.Size([5, 1, 7, 7])

    References:
        Odena, Dumoulin and Olah, Deconvolution and checkerboard artifacts, Distill, 2016
    """

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int], weight_norm: bool = False) -> None:
        super().__init__()
        self.size = tuple(size)
        self.layer = convolution(in_channels, out_channels, 3, weight_norm=weight_norm)

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layer(interpolate(x, size=self.size, mode="nearest"))


def convolution(
    in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, weight_norm: bool = False
) -> nn.Conv2d:
    """A convolution that keeps height and width, or divides them by its stride; for (N, C, H, W).

    Raises:
        ValueError: a number of channels is below 1, or kernel_size is even.
    """
    for word, size in (("in_channels", in_channels), ("out_channels", out_channels)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"convolution: {word} must be an integer of at least 1, got {size!r}")
    if kernel_size % 2 == 0:
        raise ValueError(f"convolution: kernel_size must be odd, for its output to lie on its input, got {kernel_size}")
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
    if weight_norm:
        weight_normalized(layer)
    return layer


def _normalized(channels: int, group_norm: bool) -> list[nn.Module]:
    return [*([nn.GroupNorm(_groups(channels), channels)] if group_norm else []), nn.SiLU()]


def _groups(channels: int) -> int:
    """The most groups of at least two channels each that divide the channels; one of a single channel."""
    return max((g for g in range(1, MOST_GROUPS + 1) if channels % g == 0 and channels // g >= 2), default=1)
