"""Orders of a vector's coordinates for couplings: the first half is given, the second moves.

An image is squeezed: each 2 x 2 block gives four channels, of which two are given. By turns these are the two colours
of a checkerboard, of pixels and of blocks of pixels, then even and odd rows, then columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SplitOrder", "split_orders"]


class SplitOrder(NamedTuple):
    """An order of all D coordinates, and the shape of the half that is given."""

    order: Tensor  # (D,)
    given: tuple[int, ...]  # (D // 2,) of vectors, (C, H, W) of images
    moved: tuple[int, ...]


PATTERNS = ((0, 3, 1, 2), (0, 1, 2, 3), (0, 2, 1, 3))
"""Of the four places of a 2 x 2 block: those of the checkerboard's colours, rows, and columns."""


def split_orders(shape: Sequence[int], num_couplings: int) -> list[SplitOrder]:
    """The orders of a number of couplings, each followed by the one in which the other half moves.

    Arguments:
        shape: (D,) of vectors, or (C, H, W) of images, H and W even.
        num_couplings: an even number, so that every coordinate moves as often as every other.

    Raises:
        ValueError: an image of odd height or width, fewer than two coordinates, or an odd number of couplings.

    Example:
        >>> [tuple(order.given) for order in split_orders((1, 4, 4), 4)]
        [(2, 2, 2), (2, 2, 2), (8, 1, 1), (8, 1, 1)]
    """
    if num_couplings < 2 or num_couplings % 2:
        raise ValueError(
            f"num_couplings must be a positive even number, so that both halves move, got {num_couplings!r}"
        )
    if len(shape) == 3:
        return _of_images(tuple(shape), num_couplings)
    (size,) = shape
    if size < 2:
        raise ValueError(f"a coupling needs data of at least 2 dimensions, got {size}")
    forth = SplitOrder(torch.arange(size), (size // 2,), (size - size // 2,))
    back = SplitOrder(torch.arange(size).flip(0), (size // 2,), (size - size // 2,))
    return [forth, back] * (num_couplings // 2)


def _of_images(shape: tuple[int, ...], num_couplings: int) -> list[SplitOrder]:
    C, H, W = shape
    if H % 2 or W % 2:
        raise ValueError(
            f"images of {H} x {W} have no 2 x 2 blocks to squeeze: pad them to even height and width, or take dense "
            "networks (channels=0)"
        )
    once = torch.arange(C * H * W).reshape(C, H, W)
    scales = [once] if H % 4 or W % 4 else [once, _squeezed(once).flatten(0, 1)]
    found: list[SplitOrder] = []
    for turn in range(num_couplings // 2):
        grid = _squeezed(scales[turn % len(scales)])  # (4, C, H, W)
        pattern = PATTERNS[turn // len(scales) % len(PATTERNS)]
        for places in (pattern, (*pattern[2:], *pattern[:2])):
            part = (2 * grid.shape[1], *grid.shape[2:])
            found.append(SplitOrder(grid[list(places)].flatten(), part, part))
    return found


def _squeezed(image: Tensor) -> Tensor:
    """The four places of each 2 x 2 block: (C, H, W) -> (4, C, H / 2, W / 2)."""
    C, H, W = image.shape
    return image.reshape(C, H // 2, 2, W // 2, 2).permute(2, 4, 0, 1, 3).reshape(4, C, H // 2, W // 2)
