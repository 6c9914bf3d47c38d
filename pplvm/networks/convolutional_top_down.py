"""The parts of a hierarchy of latent maps at several scales, of residual convolutions."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pplvm.networks.convolutional import scale_sizes
from pplvm.networks.image_layers import Downsampling, ImageLayer, ResidualConvolution, Upsampling, convolution
from pplvm.networks.top_down import BottomUp, TopDown

__all__ = ["ConvolutionalHierarchy", "Convolution", "ToImage"]


class Convolution(ImageLayer):
    """A convolution with any number of leading dimensions, (..., C, H, W) -> (..., C', H, W).

    Example:
        >>> Convolution(2, 3)(torch.zeros(5, 4, 2, 8, 8)).shape
        torch.Size([5, 4, 3, 8, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.layer = convolution(in_channels, out_channels, kernel_size)

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layer(x)


class ToImage(ImageLayer):
    """The state at the finest scale of latents to an image, with a bias for each value of the image.

    Arguments:
        channels: of the state.
        out_shape: (C, H, W).
        blocks: that come before the upsampling.

    Example:
        >>> ToImage(4, (1, 8, 8), nn.Identity())(torch.zeros(5, 3, 4, 4, 4)).shape
        torch.Size([5, 3, 1, 8, 8])
    """

    def __init__(self, channels: int, out_shape: Sequence[int], blocks: nn.Module) -> None:
        super().__init__()
        C, H, W = out_shape
        self.layers = nn.Sequential(blocks, nn.SiLU(), Upsampling(channels, C, (H, W)))
        self.bias = nn.Parameter(torch.zeros(C, H, W))

    def of_batch(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.bias


class ConvolutionalHierarchy:
    """Makes the networks of a hierarchy of latent maps, whose scales halve from the image up.

    Arguments:
        data_shape: (C, H, W) of the image.
        num_groups: at each scale, from the top (the coarsest) down; the finest is half as high as the image.
        channels: of the state and the features, at all scales.
        num_blocks: residual blocks for each group.
        squeeze_excitation, weight_norm: of the blocks, as of `ResidualConvolution`.

    Example:
        >>> parts = ConvolutionalHierarchy((1, 28, 28), num_groups=(2, 1), channels=4)
        >>> [e.shape for e in parts.bottom_up()(torch.zeros(3, 1, 28, 28))]
        [torch.Size([3, 4, 7, 7]), torch.Size([3, 4, 7, 7]), torch.Size([3, 4, 14, 14])]
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        num_groups: Sequence[int],
        channels: int,
        num_blocks: int = 1,
        squeeze_excitation: bool = True,
        weight_norm: bool = False,
    ) -> None:
        self.data_shape, self.num_groups, self.channels = tuple(data_shape), tuple(num_groups), channels
        self.num_blocks = num_blocks
        self.sizes = scale_sizes((data_shape[1], data_shape[2]), len(num_groups))[:0:-1]  # from the top down
        scale = (num_blocks * sum(num_groups)) ** -0.5
        kwargs = {"scale": scale, "squeeze_excitation": squeeze_excitation, "weight_norm": weight_norm}
        self._block = partial(ResidualConvolution, channels, **kwargs)

    @property
    def top_shape(self) -> tuple[int, int, int]:
        """The shape of the state above all groups."""
        return (self.channels, *self.sizes[0])

    def bottom_up(self, data_mean: Tensor | None = None) -> BottomUp:
        """From images, less their mean, to features for each group."""
        stages, arriving = [], self.data_shape[0]
        for count in self.num_groups[::-1]:
            stages += [nn.Sequential(Downsampling(arriving, self.channels), *self.blocks())]
            stages += [nn.Sequential(*self.blocks()) for _ in range(count - 1)]
            arriving = self.channels
        centre = torch.zeros(self.data_shape) if data_mean is None else data_mean.reshape(self.data_shape)
        return BottomUp(stages, centre)

    def top_down(self, latent_channels: int, clamp: float | None = 5.0) -> list[TopDown]:
        """The groups, from the top; the last of a scale brings the state to the next."""
        found = []
        for scale, count in enumerate(self.num_groups):
            for number in range(count):
                body = nn.Sequential(*self.blocks())
                if number == count - 1 and scale + 1 < len(self.sizes):
                    body.append(Upsampling(self.channels, self.channels, self.sizes[scale + 1]))
                found.append(TopDown(Convolution, latent_channels, self.channels, body, clamp, dim=-3))
        return found

    def to_image(self, out_shape: Sequence[int]) -> ToImage:
        """From the last state to an image of that shape, of the data's size."""
        return ToImage(self.channels, out_shape, nn.Sequential(*self.blocks()))

    def blocks(self) -> list[nn.Module]:
        """Residual blocks, new ones."""
        return [self._block() for _ in range(self.num_blocks)]
