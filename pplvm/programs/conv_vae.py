"""The convolutional variational autoencoder, a preset of `VAE` for images.

p(z) = N(0, I),   p(x | z) = likelihood(decoder(z)),   q(z | x) = N(loc(x), diag(scale(x)^2)),   x (C, H, W)
"""

from collections.abc import Sequence
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from pplvm.programs.likelihoods import Likelihood, likelihood_named
from pplvm.programs.sizes import require_sizes
from pplvm.programs.vae import VAE

__all__ = ["ImageLikelihood", "conv_vae"]


class ImageLikelihood(nn.Module):
    """A likelihood of flattened data, for a decoder whose output is an image with one channel or more a value.

    Arguments:
        likelihood: of `pplvm.programs.likelihoods`, with as many outputs for each value of a datum.
        data_shape: (C, H, W).
    """

    def __init__(self, likelihood: Likelihood, data_shape: Sequence[int]) -> None:
        super().__init__()
        self.likelihood, self.data_shape = likelihood, tuple(data_shape)
        self.per_value = likelihood.output_size // likelihood.data_size

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """The shape of the decoder's output for one datum."""
        C, H, W = self.data_shape
        return C * self.per_value, H, W

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        by_value = outputs.unflatten(-3, (-1, self.per_value)).movedim(-3, -1)  # (..., C, H, W, per value)
        return self.likelihood(by_value.flatten(-4))

    def bias(self, data_mean: Tensor) -> Tensor:
        """The output of which the distribution has about the mean (D,) of the data, (*output_shape)."""
        by_value = self.likelihood.bias(data_mean.flatten()).reshape(*self.data_shape, self.per_value)
        return by_value.movedim(-1, 1).reshape(self.output_shape)


def conv_vae(
    data_shape: Sequence[int],
    latent_size: int = 16,
    channels: Sequence[int] = (32, 64),
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_blocks: int = 1,
) -> VAE:
    """Make a convolutional variational autoencoder of images.

    Arguments:
        data_shape: (C, H, W), of data (B, C, H, W).
        latent_size: Z.
        channels: at each scale, each half as high and wide as the one before; the image is the scale before the first.
        likelihood: by name, as for `likelihood_named`, of the flattened image.
        data_mean: (D,), D = C H W, the mean of the training data, from which the decoder's bias starts.
        levels: of grey data.
        num_blocks: residual blocks at each scale.

    Raises:
        ValueError: data_shape is not (C, H, W), or cannot be halved so often; there is no such likelihood; latent_size
            is below 1; data_mean is of another size.

    Example:
        >>> from pplvm.objectives.objective import Loss
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> program = conv_vae((1, 8, 8), latent_size=4, channels=(8, 16))
        >>> Loss(AnalyticKL(), program)(torch.zeros(3, 1, 8, 8)).backward()

    References:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898 (residual cells)
    """
    require_sizes("conv_vae", "latent_size", [latent_size])
    encoder = ConvolutionalEncoder(data_shape, 2 * latent_size, channels, num_blocks)
    C, H, W = data_shape
    if data_mean is not None and data_mean.numel() != C * H * W:
        raise ValueError(
            f"conv_vae: data_mean has {data_mean.numel()} values, and an image of shape {tuple(data_shape)} {C * H * W}"
        )
    of_images = ImageLikelihood(likelihood_named(likelihood, C * H * W, levels), data_shape)
    decoder = ConvolutionalDecoder(latent_size, of_images.output_shape, channels, num_blocks)
    if data_mean is not None:
        with torch.no_grad():
            decoder.bias.copy_(of_images.bias(data_mean))
    return VAE(latent_size=latent_size, encoder=encoder, decoder=decoder, likelihood=of_images)
