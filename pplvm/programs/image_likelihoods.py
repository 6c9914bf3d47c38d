"""Likelihoods of images, which stand after a convolutional decoder."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.discretized_logistic import require_levels
from pplvm.distributions.discretized_logistic_mixture import DiscretizedLogisticMixture, DiscretizedLogisticMixtureRGB
from pplvm.programs.conv_vae import ImageLikelihood
from pplvm.programs.likelihoods import likelihood_named, loc_and_scale

__all__ = ["DiscretizedLogisticImages", "image_likelihood_named", "output_shape", "start_map_at"]

COMPONENTS = 5
"""Of a colour image's mixture unless told; PixelCNN++ has 10, whose outputs cost twice as much."""


class DiscretizedLogisticImages(nn.Module):
    """Maps (..., output_channels, H, W) of a decoder to mixtures of discretized logistics of grey or RGB images.

    Arguments:
        levels: L of the data k / (levels - 1), at least 2.
        channels: C, 1 for grey images, 3 for RGB, whose channels are coupled.
        num_components: M; 10 in PixelCNN++.

    Raises:
        ValueError: levels is less than 2, or channels neither 1 nor 3.

    Example:
        >>> import torch
        >>> likelihood = DiscretizedLogisticImages(levels=256, channels=3)
        >>> likelihood.output_channels, likelihood(torch.zeros(2, 100, 8, 8)).event_shape
        (100, torch.Size([3, 8, 8]))

    References:
        Salimans, Karpathy, Chen and Kingma, PixelCNN++, 2017, arXiv:1701.05517
    """

    def __init__(self, levels: int, channels: int = 1, num_components: int = 10) -> None:
        super().__init__()
        self.levels = require_levels(levels, type(self).__name__)
        if channels not in (1, 3):
            raise ValueError(
                f"DiscretizedLogisticImages: channels must be 1 (grey) or 3 (RGB), got {channels}: flatten images of "
                "other channels and use DiscretizedLogisticOutputs"
            )
        self.channels, self.num_components = channels, num_components

    @property
    def output_channels(self) -> int:
        """Channels that the decoder gives: 3 M for grey images, 10 M for RGB."""
        return self.num_components * (3 if self.channels == 1 else 10)

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        of_components = outputs.unflatten(-3, (-1, self.num_components))  # (..., 3 or 10, M, H, W)
        if self.channels == 1:
            logits, loc, scale = of_components.movedim(-3, -1).unsqueeze(-4).unbind(-5)  # each (..., 1, H, W, M)
            return DiscretizedLogisticMixture(logits, *loc_and_scale(loc, scale, self.levels), self.levels).to_event(3)
        logits, rest = of_components.split([1, 9], -4)
        loc, scale, coefficients = rest.unflatten(-4, (3, 3)).movedim(-4, -3).unbind(-5)  # each (..., M, 3, H, W)
        parts = logits.squeeze(-4), *loc_and_scale(loc, scale, self.levels), coefficients.tanh()
        return DiscretizedLogisticMixtureRGB(*parts, self.levels)

    def bias(self, data_mean: Tensor) -> Tensor:
        """Outputs with components side by side about the mean (C, H, W) of the data: (output_channels, H, W)."""
        C, H, W = data_mean.shape
        mean = data_mean.clamp(0.01, 0.99).unsqueeze(1)  # (C, 1, H, W)
        places = torch.arange(self.num_components, dtype=mean.dtype, device=mean.device)[:, None, None]
        middle = (self.num_components - 1) / 2
        loc = 2 * (mean + (mean * (1 - mean)).sqrt() * (places - middle) / self.num_components) - 1  # (C, M, H, W)
        zeros = torch.zeros_like(loc)
        if C == 1:
            return torch.cat([zeros[0], loc[0], zeros[0]])
        return torch.cat([zeros[:1], loc, zeros, zeros]).flatten(0, 1)


def image_likelihood_named(
    name: str, data_shape: Sequence[int], levels: int | None = None
) -> ImageLikelihood | DiscretizedLogisticImages:
    """The likelihood of images that has this name, after a convolutional decoder.

    Arguments:
        name: as for `likelihood_named`; "discretized-logistic" of three channels couples them, red, green and blue.
        data_shape: (C, H, W).
        levels: of the data, values k / (levels - 1).

    Raises:
        ValueError: as of `likelihood_named`.

    Example:
        >>> likelihood = image_likelihood_named("discretized-logistic", (3, 8, 8), levels=256)
        >>> likelihood(torch.zeros(2, *output_shape(likelihood, (3, 8, 8)))).event_shape
        torch.Size([3, 8, 8])
    """
    C, H, W = data_shape
    of_values = likelihood_named(name, C * H * W, levels)
    if name == "discretized-logistic" and C == 3 and levels is not None:
        return DiscretizedLogisticImages(levels, C, COMPONENTS)
    return ImageLikelihood(of_values, data_shape)


def output_shape(
    likelihood: ImageLikelihood | DiscretizedLogisticImages, data_shape: Sequence[int]
) -> tuple[int, int, int]:
    """The shape (C', H, W) of the decoder's output for one datum."""
    if isinstance(likelihood, ImageLikelihood):
        return likelihood.output_shape
    return likelihood.output_channels, data_shape[1], data_shape[2]


def start_map_at(
    bias: nn.Parameter,
    likelihood: ImageLikelihood | DiscretizedLogisticImages,
    data_shape: Sequence[int],
    data_mean: Tensor | None,
) -> None:
    """Start the bias of a decoder at the mean (D,) of the data, if that is known.

    Raises:
        ValueError: the mean is of another size.
    """
    if data_mean is None:
        return
    C, H, W = data_shape
    if data_mean.numel() != C * H * W:
        raise ValueError(f"data_mean has {data_mean.numel()} values, and an image of {C}x{H}x{W} has {C * H * W}")
    with torch.no_grad():
        bias.copy_(likelihood.bias(data_mean.reshape(C, H, W)))
