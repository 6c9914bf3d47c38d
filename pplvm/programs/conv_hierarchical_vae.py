"""The hierarchical variational autoencoder of latent maps at several scales, a preset of `HierarchicalVAE`."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pplvm.networks.convolutional import scale_sizes
from pplvm.networks.convolutional_top_down import ConvolutionalHierarchy
from pplvm.networks.spectral_norm import sum_of_spectral_norms
from pplvm.programs.conv_vae import ImageLikelihood
from pplvm.programs.hierarchical_vae import HierarchicalVAE
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_sizes

__all__ = ["conv_hierarchical_vae"]


def conv_hierarchical_vae(
    data_shape: Sequence[int],
    num_groups: Sequence[int] = (2, 1),
    latent_channels: int = 4,
    channels: int = 32,
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_blocks: int = 1,
    clamp: float | None = 5.0,
    squeeze_excitation: bool = True,
    weight_norm: bool = False,
    spectral_norm: bool = False,
) -> HierarchicalVAE:
    """Make a hierarchical variational autoencoder of images, whose latents are maps at several scales.

    Of 28 x 28 images, num_groups (2, 1) are two groups of 7 x 7 maps and below them one of 14 x 14.

    Arguments:
        data_shape: (C, H, W), of data (B, C, H, W).
        num_groups: at each scale, from the top (the coarsest) down; the finest scale is half as high as the image.
        latent_channels: maps of each group.
        channels: of the state and the features.
        likelihood: by name, as for `likelihood_named`, of the flattened image.
        data_mean: (D,), D = C H W, of the training data: centres the guide's input, starts the decoder's bias.
        levels: of grey data.
        num_blocks: residual blocks for each group, bottom-up and top-down, and before the data.
        clamp: soft bound of log scales and residuals in the heads; None for no bound.
        squeeze_excitation, weight_norm: of the residual blocks.
        spectral_norm: let the guide have the penalty site "spectral_norm".

    Raises:
        ValueError: data_shape is not (C, H, W), or cannot be halved so often; a number is below 1; no such likelihood.

    Example:
        >>> program = conv_hierarchical_vae((1, 8, 8), num_groups=(1, 1), latent_channels=2, channels=4)
        >>> program.guide(torch.zeros(3, 1, 8, 8))

    References:
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898
    """
    numbers = {"latent_channels": latent_channels, "channels": channels, "num_blocks": num_blocks}
    D = _checked(data_shape, num_groups, data_mean, **numbers)
    networks = ConvolutionalHierarchy(data_shape, num_groups, channels, num_blocks, squeeze_excitation, weight_norm)
    of_images = ImageLikelihood(likelihood_named(likelihood, D, levels), data_shape)
    decoder = networks.to_image(of_images.output_shape)
    if data_mean is not None:
        with torch.no_grad():
            decoder.bias.copy_(of_images.bias(data_mean))
    return HierarchicalVAE(
        networks.bottom_up(data_mean),
        networks.top_down(latent_channels, clamp),
        decoder,
        of_images,
        start=torch.zeros(networks.top_shape),
        event_dim=3,
        penalties={"spectral_norm": sum_of_spectral_norms} if spectral_norm else None,
    )


def _checked(data_shape: Sequence[int], num_groups: Sequence[int], data_mean: Tensor | None, **numbers: int) -> int:
    """D, the size of one datum.

    Raises:
        ValueError: the arguments fit no hierarchy.
    """
    name = "conv_hierarchical_vae"
    require_sizes(name, "num_groups", num_groups, "how many groups there are at each scale", "2,1")
    require_sizes(name, "data_shape", data_shape, "channels, height and width", "1,28,28")
    if len(data_shape) != 3:
        raise ValueError(f"{name}: data_shape must be that of images (C, H, W), got {tuple(data_shape)}")
    for word, number in numbers.items():
        require_sizes(name, word, [number])
    C, H, W = data_shape
    coarsest = scale_sizes((H, W), len(num_groups) - 1)[-1]
    if coarsest == (1, 1):
        raise ValueError(
            f"{name}: an image of {H}x{W} cannot be halved {len(num_groups)} times, once for each scale of "
            f"num_groups {tuple(num_groups)}: give fewer scales"
        )
    if data_mean is not None and data_mean.numel() != C * H * W:
        raise ValueError(f"{name}: data_mean has {data_mean.numel()} values, and an image of {C}x{H}x{W} {C * H * W}")
    return C * H * W
