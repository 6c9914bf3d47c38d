"""Sprites with known factors, rendered here: shape, scale, rotation, x and y. They are not the images of dSprites."""

__all__ = ["FACTORS", "sprites"]

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pplvm.data.counter_rng import permutation
from pplvm.data.image_data import ImageData
from pplvm.data.images import DIGITS_PARTS

FACTORS = ("shape", "scale", "rotation", "x", "y")
"""The names of the factors, in the order of the columns of the array `factors`."""

SHAPES = 3
"""Square, ellipse and heart."""

LEAST_SIDE = 16
"""On fewer pixels most of the scales and rotations look alike."""

RADII = (0.12, 0.21)
"""Of the smallest and the largest sprite, in sides of the image: with any rotation and place all of it is inside."""

SPAN = 0.5
"""Of the places of a sprite's centre, in sides of the image."""

OFF_CENTRE = 1 / 128
"""A quarter of a pixel of 32: sprites between pixels change by the next scale, which on them may look alike."""

AT_ONCE = 2048
"""Images rendered together, for the sake of memory."""


def sprites(
    split: str = "train",
    side: int = 32,
    sizes: Sequence[int] = (6, 8, 16, 16),
    count: int | None = None,
    seed: int = 0,
) -> ImageData:
    """Binary images of one sprite: every shape, scale, rotation, x and y of a grid, or a random part of the grid.

    A square, an ellipse or a heart is rendered on `side` x `side` pixels, 1 where a pixel's centre is inside. Rotations
    share out a quarter turn, so that no symmetry makes two of them alike: at sides 32 and 64 all 36,864 images of the
    standard grid differ. The array `factors`, (N, 5) integers from 0, holds each image's levels, and `labels` the
    shape. They are rendered here after the description of dSprites and are not its images: scores on them are not
    comparable with scores on dSprites.

    Arguments:
        split: "train", "valid" or "test", 80, 10 and 10 of a hundred images in random order.
        side: of the images, in pixels, at least 16.
        sizes: numbers of scales, rotations, places along x and places along y, each at least 2.
        count: of images in all splits, at least 10, chosen at random from the grid; the whole grid unless given.
        seed: of the choice and of the splits.
    Raises ValueError for another split, fewer pixels or levels, and another number of images than the grid has.

    Example:
        >>> data = sprites("test", side=16, sizes=(2, 2, 4, 4), count=100)
        >>> data.spec.shape, len(data), data.arrays["factors"]().shape
        ((16, 16), 10, torch.Size([10, 5]))

    References:
        Matthey, Higgins, Hassabis and Lerchner, dSprites: disentanglement testing sprites dataset, 2017
    """
    if split not in DIGITS_PARTS:
        raise ValueError(f"there is no split {split!r}: use train, valid or test")
    if side < LEAST_SIDE:
        raise ValueError(f"sprites: side must be at least {LEAST_SIDE} pixels, got {side}")
    if len(sizes) != len(FACTORS) - 1 or min(sizes) < 2:
        raise ValueError(
            "sprites: sizes are the numbers of scales, rotations, x and y, each at least 2, as 6,8,16,16, got "
            + ",".join(map(str, sizes))
        )
    levels = (SHAPES, *sizes)
    every = math.prod(levels)
    total = every if count is None else count
    if not 10 <= total <= every:
        raise ValueError(f"sprites: count must be from 10 to {every:,}, the images of the grid, got {count}")
    tenth = total // 10
    part = {"valid": slice(tenth), "test": slice(tenth, 2 * tenth), "train": slice(2 * tenth, total)}[split]
    rows = permutation(every, seed)[part]  # (N,)
    factors = torch.stack(torch.unravel_index(rows, levels), 1)  # (N, 5)
    images = torch.cat([_render(some, sizes, side) for some in factors.split(AT_ONCE)])
    data = ImageData(images, "sprites, re-rendered", 2, factors[:, 0].clone())
    data.arrays, data.factor_names = {"factors": lambda: factors}, FACTORS
    return data


def _render(factors: Tensor, sizes: Sequence[int], side: int) -> Tensor:
    """The images of some levels (n, 5), uint8 (n, side, side), rows from top to bottom and y upwards."""
    shape, *levels = factors.numpy().T
    scale, rotation, x, y = (each.astype("f4") for each in levels)  # (n,)
    radius = RADII[0] + (RADII[1] - RADII[0]) * scale / np.float32(sizes[0] - 1)
    angle = (rotation + np.float32(0.5)) * np.float32(math.pi / 2 / sizes[1])
    pixels = (np.arange(side, dtype="f4") + np.float32(0.5)) / side
    right = (pixels - _centre(x, sizes[2])[:, None]) / radius[:, None]  # (n, side), in radii
    up = (pixels[::-1] - _centre(y, sizes[3])[:, None]) / radius[:, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u = cos * right[:, None, :] + sin * up[:, :, None]  # (n, side, side), as the sprite's own axes have it
    v = cos * up[:, :, None] - sin * right[:, None, :]
    inside = np.empty(u.shape, np.uint8)
    for number, contains in enumerate((_square, _ellipse, _heart)):
        own = shape == number
        inside[own] = contains(u[own], v[own])
    return torch.from_numpy(inside)


def _centre(level: np.ndarray, size: int) -> np.ndarray:
    """The place of a sprite's centre, in sides of the image."""
    return np.float32(0.5 + OFF_CENTRE) + np.float32(SPAN / size) * (level - np.float32((size - 1) / 2))


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) <= 0.8


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.square(u / np.float32(1.1)) + np.square(v / np.float32(0.6)) <= 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.float32(1.15) * u, np.float32(1.15) * v + np.float32(0.15)
    ring = np.square(u) + np.square(v) - 1
    return ring * ring * ring <= np.square(u) * v * v * v
