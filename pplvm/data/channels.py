"""Images (N, H, W) or (N, H, W, C) as (N, C, H, W), the layout of convolutions, without a copy."""

__all__ = ["with_channel"]

from torch import Tensor

from pplvm.data.lazy_rows import LazyRows

CHANNELS = (1, 3)
"""Of grey and of coloured images."""


def with_channel(images: Tensor | LazyRows, name: str) -> Tensor | LazyRows:
    """A view of images with the channel dimension first; grey images get one channel.

    Arguments:
        images: (N, H, W), (N, C, H, W), or (N, H, W, C) of 1 or 3 channels.
        name: what messages call the data set.
    Raises:
        ValueError: they have another number of dimensions.
    """
    shape = tuple(images.shape[1:])
    if len(shape) == 2:
        return images.unsqueeze(1)
    if len(shape) != 3:
        raise ValueError(
            f"data set {name!r} holds data of shape {shape}, and images are (H, W) or (C, H, W): save them so"
        )
    first, last = shape[0], shape[-1]
    return images.movedim(-1, 1) if first not in CHANNELS and last in CHANNELS else images
