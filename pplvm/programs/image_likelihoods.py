"""Likelihoods of images, which stand after a convolutional decoder."""

import pyro.distributions as dist
from torch import Tensor, nn

from pplvm.distributions.discretized_logistic import require_levels
from pplvm.distributions.discretized_logistic_mixture import DiscretizedLogisticMixture, DiscretizedLogisticMixtureRGB
from pplvm.programs.likelihoods import loc_and_scale

__all__ = ["DiscretizedLogisticImages"]


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
