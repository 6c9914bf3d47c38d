"""The gated PixelCNN as a likelihood of binary images, behind a decoder that gives it a map.

p(x | z) = prod_i Bernoulli(x_i; logit_i(x_1 .. x_i-1, decoder(z)))
"""

from collections.abc import Sequence

import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution

from pplvm.distributions.autoregressive import Autoregressive
from pplvm.networks.pixelcnn import PixelCNN, PixelCNNCache

__all__ = ["PixelCNNLikelihood"]


class PixelCNNLikelihood(nn.Module):
    """Binary pixels, each given those before it within reach and a map of the decoder, as in PixelVAE.

    What a pixel sees, at most R rows above and R columns aside, R = sum of (kernel size - 1) / 2, need not go through
    z: the smaller R, the more the latents must carry. Pixel dropout hides each pixel from those after it with a
    probability, in training mode only; it is predicted all the same. At 1 the pixels are independent given z.

    Arguments:
        size: (H, W), of data whose values, flattened, are its H W pixels.
        context_channels: C of the decoder's map (..., C, H, W), or (..., C, 1, 1).
        channels, kernel_sizes: of `pplvm.networks.pixelcnn.PixelCNN`.
        pixel_dropout: the probability, from 0 to 1.

    Raises:
        ValueError: a size is below 1, a kernel size even, or pixel_dropout no probability.

    Example:
        >>> from pplvm.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
        >>> from pplvm.programs.vae import VAE
        >>> program = VAE(
        ...     latent_size=2,
        ...     encoder=ConvolutionalEncoder((1, 8, 8), 4, channels=(8,)),
        ...     decoder=ConvolutionalDecoder(2, (6, 8, 8), channels=(8,)),
        ...     likelihood=PixelCNNLikelihood((8, 8), context_channels=6, channels=8),
        ... )
        >>> program.model(torch.zeros(3, 1, 8, 8))

    References:
        Gulrajani, Kumar, Ahmed, Taiga, Visin, Vazquez and Courville, PixelVAE: a latent variable model for natural
        images, 2017, arXiv:1611.05013
        Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever and Abbeel, Variational lossy autoencoder, 2017,
        arXiv:1611.02731 (restricted receptive field)
        Bowman, Vilnis, Vinyals, Dai, Jozefowicz and Bengio, Generating sentences from a continuous space, 2016,
        arXiv:1511.06349 (dropout of what the decoder conditions on)
    """

    def __init__(
        self,
        size: Sequence[int],
        context_channels: int,
        channels: int = 32,
        kernel_sizes: Sequence[int] = (5, 3),
        pixel_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if context_channels < 1:
            raise ValueError(f"PixelCNNLikelihood: context_channels must be at least 1, got {context_channels}")
        if not 0 <= pixel_dropout <= 1:
            raise ValueError(f"PixelCNNLikelihood: pixel_dropout is a probability, got {pixel_dropout}")
        self.network = PixelCNN(1, 1, size, channels, kernel_sizes, context_channels=context_channels)
        self.pixel_dropout = nn.Dropout(pixel_dropout)

    def forward(self, context: Tensor) -> Autoregressive:
        projected = self.network.project(context)  # (..., L, 4 channels, H, W)
        of_one = projected.shape[-4:]

        def conditionals(x: Tensor) -> Distribution:
            kept = self.pixel_dropout(torch.ones_like(x)).sign()
            logits = self.network((kept * _as_input(x)).unsqueeze(-1), projected)
            return Bernoulli(logits=logits.squeeze(-1), validate_args=False)

        def first(shape: torch.Size) -> PixelCNNCache:
            rows = projected.expand(*shape, *of_one).reshape(-1, *of_one)
            return self.network.init_cache(shape.numel(), rows)

        def step(cache: PixelCNNCache, before: Tensor | None) -> tuple[Distribution, PixelCNNCache]:
            logits, cache = self.network.step(cache, None if before is None else _as_input(before))
            return Bernoulli(logits=logits.squeeze(-1), validate_args=False), cache

        H, W = self.network.grid
        return Autoregressive(
            conditionals,
            first,
            step,
            event_shape=(H * W,),
            support=constraints.boolean,
            batch_shape=projected.shape[:-4],
        )


def _as_input(x: Tensor) -> Tensor:
    """-1 or 1, so that 0 says nothing."""
    return 2 * x - 1
