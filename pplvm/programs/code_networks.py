"""Encoders and decoders of programs with codes on a grid, of which their presets are made: dense or convolutional."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pplvm.networks.code_maps import CodeMapDecoder, CodeMapEncoder
from pplvm.programs.conv_vae import ImageLikelihood
from pplvm.programs.dense_networks import dense_decoder, dense_encoder
from pplvm.programs.likelihoods import Likelihood
from pplvm.programs.sizes import require_dense_sizes, require_sizes

__all__ = ["DENSE_GRID", "CodeNetworks", "convolutional_code_networks", "dense_code_networks"]

DENSE_GRID = (2, 2)
"""Of dense programs, whose grid follows from no image."""


class CodeNetworks(NamedTuple):
    """What stands on both sides of the codes."""

    encoder: nn.Module  # x (B, *shape) to (B, N, D)
    decoder: nn.Module  # (..., N, D) to what the likelihood takes
    likelihood: Callable[[Any], Any]
    grid: tuple[int, int]  # (h, w), N = h w


def dense_code_networks(
    likelihood: Likelihood,
    grid: Sequence[int],
    code_size: int,
    hidden_sizes: Sequence[int] = (200,),
    activation: str = "softplus",
    data_mean: Tensor | None = None,
) -> CodeNetworks:
    """Multilayer perceptrons between flattened data and all vectors at once.

    Arguments:
        likelihood: of flattened data.
        grid: (h, w).
        code_size: D.
        hidden_sizes, activation: of the encoder's hidden layers; the decoder has them in reverse.
        data_mean: at which the decoder's bias starts, if known.

    Raises:
        ValueError: a size is below 1, or the grid is not (h, w).

    Example:
        >>> from pplvm.programs.likelihoods import likelihood_named
        >>> networks = dense_code_networks(likelihood_named("bernoulli", 6), (1, 3), code_size=2)
        >>> networks.encoder(torch.zeros(5, 6)).shape, networks.decoder(torch.zeros(7, 5, 3, 2)).shape
        (torch.Size([5, 3, 2]), torch.Size([7, 5, 6]))
    """
    h, w = _require_grid(grid)
    require_dense_sizes("vq_vae", 1, hidden_sizes)
    N, D = h * w, code_size
    encoder = nn.Sequential(
        dense_encoder(likelihood.data_size, N * D, hidden_sizes, activation), nn.Unflatten(-1, (N, D))
    )
    decoder = nn.Sequential(nn.Flatten(-2), dense_decoder(N * D, likelihood, hidden_sizes, activation, data_mean))
    return CodeNetworks(encoder, decoder, likelihood, (h, w))


def convolutional_code_networks(
    likelihood: Likelihood,
    data_shape: Sequence[int] | None,
    code_size: int,
    channels: Sequence[int],
    grid: Sequence[int] | None = None,
    data_mean: Tensor | None = None,
) -> CodeNetworks:
    """Residual convolutions between images and a map of vectors, each seen by the pixels around it.

    Arguments:
        likelihood: of flattened images.
        data_shape: (C, H, W).
        code_size: D.
        channels: of each scale, each half as high and wide as the one before.
        grid: (h, w), if it is to be checked.
        data_mean: at which the decoder's bias starts, if known.

    Raises:
        ValueError: data_shape is not known, or cannot be halved so often; the grid is another than the last scale's.

    Example:
        >>> from pplvm.programs.likelihoods import likelihood_named
        >>> convolutional_code_networks(likelihood_named("bernoulli", 64), (1, 8, 8), 2, channels=(4, 8)).grid
        (2, 2)
    """
    if data_shape is None:
        raise ValueError("vq_vae: channels are of convolutions, and the data are no images: leave channels out")
    channels = [channels] if isinstance(channels, int) else channels  # as a setting gives one scale
    encoder = CodeMapEncoder(data_shape, code_size, channels)
    if grid is not None and _require_grid(grid) != encoder.grid:
        raise ValueError(
            f"vq_vae: images of {data_shape[1]}x{data_shape[2]} halved {len(channels)} times, once for each of "
            f"channels {tuple(channels)}, have a grid of {encoder.grid[0]}x{encoder.grid[1]}, and grid is "
            f"{grid[0]}x{grid[1]}: leave grid out, or give fewer or more channels"
        )
    of_images = ImageLikelihood(likelihood, data_shape)
    decoder = CodeMapDecoder(code_size, of_images.output_shape, channels)
    if data_mean is not None:
        with torch.no_grad():
            decoder.bias.copy_(of_images.bias(data_mean))
    return CodeNetworks(encoder, decoder, of_images, encoder.grid)


def _require_grid(grid: Sequence[int]) -> tuple[int, int]:
    if isinstance(grid, int):  # as a setting gives one number
        raise ValueError(f"vq_vae: grid is (height, width) of the codes, such as 2,2, got {grid!r}")
    require_sizes("vq_vae", "grid", grid, "height and width of the grid of codes", "2,2")
    if len(grid) != 2:
        raise ValueError(f"vq_vae: grid is (height, width) of the codes, such as 2,2, got {tuple(grid)!r}")
    h, w = grid
    return h, w
