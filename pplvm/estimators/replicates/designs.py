"""How the noise of one replicate is laid out: independent points, a point and its mirror, or a Sobol sequence.

A replicate is the mean over its points, each of which has the program's own law, so it stays unbiased.

    mirror       -e of a normal e,   1 - u of a uniform u,   -log(1 - exp(-r)) of an exponential r
    Sobol        scrambled points of the unit cube, taken to the law of each draw by its inverse distribution function

References:
    Owen, Monte Carlo theory, methods and examples, 2013, chapters 8 and 17
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pplvm.graphs.noise import Draw, reseed

__all__ = ["Design", "DesignError", "noise_of"]

Design = Literal["independent", "antithetic", "sobol"]


class DesignError(ValueError):
    """A design that does not fit what it is asked for."""


def noise_of(
    draws: Sequence[Draw], seeds: Sequence[int], design: Design = "independent", points: int = 1
) -> list[Tensor]:
    """The noise of several replicates, each draw's (len(seeds) x points, *shape); the points of one are neighbours.

    With independent points the first is, bit for bit, what the program draws after `torch.manual_seed(seed)`.

    Arguments:
        draws: in program order.
        seeds: one a replicate.
        points: of a replicate; "antithetic" takes an even number.

    Raises:
        DesignError: an odd number of antithetic points; more noise than a Sobol sequence has dimensions.
    """
    if design == "antithetic" and points % 2:
        raise DesignError(f"antithetic points come in pairs: give an even number of them, got {points}")
    found: list[list[Tensor]] = [[] for _ in draws]
    for seed in seeds:
        reseed(seed)
        if design == "sobol":
            drawn = _sobol(draws, seed, points)
        else:
            drawn = [[draw() for draw in draws] for _ in range(points // (1 + (design == "antithetic")))]
        for point in drawn:
            for column, draw, noise in zip(found, draws, point, strict=True):
                column += [noise] if design != "antithetic" else [noise, _mirrored(draw, noise)]
    return [torch.stack(column) for column in found]


LN2 = math.log(2)
"""Above it log(1 - exp(-r)) is by log1p, below by expm1, or in float32 it is 0 from r = 17 on."""


def _mirrored(draw: Draw, noise: Tensor) -> Tensor:
    """The point on the other side of the law's middle; of draws without one, a fresh draw."""
    a, b = draw.scale
    if draw.kind == "normal":
        return 2 * a - noise
    if draw.kind == "uniform":
        return (a + b - noise).clamp(max=_below(draw))
    if draw.kind == "exponential":
        rate = (noise / b).clamp(min=torch.finfo(noise.dtype).tiny)  # or the mirror of a zero is infinite
        return -b * torch.where(rate < LN2, torch.log(-torch.expm1(-rate)), torch.log1p(-torch.exp(-rate)))
    return draw()


def _below(draw: Draw) -> float:
    """The largest number that a uniform draw gives, whose end it never reaches."""
    a, b = draw.scale
    return b - (b - a) * torch.finfo(draw.dtype).eps / 2


def _sobol(draws: Sequence[Draw], seed: int, points: int) -> list[list[Tensor]]:
    known = [draw.kind != "other" for draw in draws]
    sizes = [torch.Size(draw.shape).numel() if is_known else 0 for draw, is_known in zip(draws, known, strict=True)]
    if sum(sizes) > torch.quasirandom.SobolEngine.MAXDIM:
        raise DesignError(
            f"a Sobol sequence has at most {torch.quasirandom.SobolEngine.MAXDIM} dimensions, and one gradient draws "
            f"{sum(sizes)} numbers: take a smaller batch or fewer particles, or antithetic noise"
        )
    if not sum(sizes):
        return [[draw() for draw in draws] for _ in range(points)]
    cube = torch.quasirandom.SobolEngine(sum(sizes), scramble=True, seed=seed).draw(points, dtype=torch.float64)
    cells = cube.clamp(TINY, 1 - TINY).split(sizes, dim=1)
    return [
        [
            _by_inverse(draw, cell[n]) if is_known else draw()
            for draw, cell, is_known in zip(draws, cells, known, strict=True)
        ]
        for n in range(points)
    ]


TINY = 2.0**-33
"""Half a step of the sequence's grid, so that no draw is infinite."""


def _by_inverse(draw: Draw, uniform: Tensor) -> Tensor:
    """A draw from points of (0, 1)."""
    a, b = draw.scale
    if draw.kind == "normal":
        value = a + b * torch.special.ndtri(uniform)
    elif draw.kind == "uniform":
        value = (a + (b - a) * uniform).clamp(max=_below(draw))
    else:
        value = -b * torch.log1p(-uniform)
    return value.to(draw.device, draw.dtype).reshape(draw.shape)
