"""Designs of a replicate's noise: independent points, antithetic pairs, or a Sobol sequence.

A replicate is the mean over its points, each of which has the program's own distribution, so it stays unbiased.

    mirror       -e of a normal e,   1 - u of a uniform u,   -log(1 - exp(-r)) of an exponential r
    Sobol        scrambled points of the unit cube, taken to each draw by its inverse distribution function

References:
    Owen, Monte Carlo theory, methods and examples, 2013, chapters 8 and 17
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pplvm.graphs.noise import Draw, reseed

__all__ = ["DESIGNS", "Antithetic", "Design", "DesignError", "Independent", "PLAIN", "Sobol"]


class DesignError(ValueError):
    """A design that does not fit what it is asked for."""


@dataclass(frozen=True)
class Design(ABC):
    """The points of noise whose mean is one replicate.

    Arguments:
        points: of a replicate, at least 1.

    Raises:
        DesignError: there is no point.
    """

    name: ClassVar[str]
    points: int

    def __post_init__(self) -> None:
        if self.points < 1:
            raise DesignError(f"{self.name} noise needs at least 1 point, got {self.points}")

    @property
    def is_plain(self) -> bool:
        """Whether a replicate is one step as training takes it."""
        return False

    def noise(self, draws: Sequence[Draw], seeds: Sequence[int]) -> list[Tensor]:
        """The noise of several replicates, each draw's (len(seeds) x points, *shape); the points of one are neighbours.

        The first point is, bit for bit, what the program draws after `torch.manual_seed(seed)`, unless it is Sobol's.

        Arguments:
            draws: in program order.
            seeds: one a replicate.
        """
        found: list[list[Tensor]] = [[] for _ in draws]
        for seed in seeds:
            reseed(seed)
            for point in self._points(draws, seed):
                for column, noise in zip(found, point, strict=True):
                    column.append(noise)
        return [torch.stack(column) for column in found]

    @abstractmethod
    def _points(self, draws: Sequence[Draw], seed: int) -> list[list[Tensor]]:
        """All points of one replicate, each a tensor for every draw."""

    def __str__(self) -> str:
        return f"{self.name} noise of {self.points} points"


class Independent(Design):
    """Points that are drawn one after the other; one point is the program's own noise.

    Example:
        >>> from pplvm.graphs.noise import Draw
        >>> draw = Draw("normal", (3,), torch.float32, torch.device("cpu"), (0.0, 1.0))
        >>> [noise.shape for noise in Independent(4).noise([draw], seeds=[0, 1])]
        [torch.Size([8, 3])]
    """

    name = "independent"

    @property
    def is_plain(self) -> bool:
        return self.points == 1

    def _points(self, draws: Sequence[Draw], seed: int) -> list[list[Tensor]]:
        return [[draw() for draw in draws] for _ in range(self.points)]


PLAIN = Independent(1)
"""The noise of one step as training takes it."""


class Antithetic(Design):
    """Pairs of a point and its mirror image.

    Raises:
        DesignError: the number of points is odd.
    """

    name = "antithetic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points % 2:
            raise DesignError(f"antithetic points come in pairs: give an even number of them, got {self.points}")

    def _points(self, draws: Sequence[Draw], seed: int) -> list[list[Tensor]]:
        found = []
        for point in [[draw() for draw in draws] for _ in range(self.points // 2)]:
            found += [point, [_mirrored(draw, noise) for draw, noise in zip(draws, point, strict=True)]]
        return found


class Sobol(Design):
    """A scrambled Sobol sequence over all numbers that a replicate draws.

    Raises:
        DesignError: there is more noise than a Sobol sequence has dimensions.
    """

    name = "sobol"

    def _points(self, draws: Sequence[Draw], seed: int) -> list[list[Tensor]]:
        known = [draw.kind != "other" for draw in draws]
        sizes = [torch.Size(draw.shape).numel() if is_known else 0 for draw, is_known in zip(draws, known, strict=True)]
        if sum(sizes) > torch.quasirandom.SobolEngine.MAXDIM:
            raise DesignError(
                f"a Sobol sequence has at most {torch.quasirandom.SobolEngine.MAXDIM} dimensions, and one gradient "
                f"draws {sum(sizes)} numbers: take a smaller batch or fewer particles, or antithetic noise"
            )
        if not sum(sizes):
            return [[draw() for draw in draws] for _ in range(self.points)]
        engine = torch.quasirandom.SobolEngine(sum(sizes), scramble=True, seed=seed)
        cells = engine.draw(self.points, dtype=torch.float64).clamp(TINY, 1 - TINY).split(sizes, dim=1)
        return [
            [
                _by_inverse(draw, cell[n]) if is_known else draw()
                for draw, cell, is_known in zip(draws, cells, known, strict=True)
            ]
            for n in range(self.points)
        ]


DESIGNS: dict[str, type[Design]] = {design.name: design for design in (Independent, Antithetic, Sobol)}
"""By the name under which options ask for them."""

LN2 = math.log(2)
"""Above it log(1 - exp(-r)) is by log1p, below by expm1, or in float32 it is 0 from r = 17 on."""

TINY = 2.0**-33
"""Half a step of the sequence's grid, so that no draw is infinite."""


def _mirrored(draw: Draw, noise: Tensor) -> Tensor:
    """The antithetic point; for distributions without symmetry a new draw."""
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
    """The largest number that a uniform draw gives, just below its upper end."""
    a, b = draw.scale
    return b - (b - a) * torch.finfo(draw.dtype).eps / 2


def _by_inverse(draw: Draw, uniform: Tensor) -> Tensor:
    """A draw by the inverse distribution function, from points of (0, 1)."""
    a, b = draw.scale
    if draw.kind == "normal":
        value = a + b * torch.special.ndtri(uniform)
    elif draw.kind == "uniform":
        value = (a + (b - a) * uniform).clamp(max=_below(draw))
    else:
        value = -b * torch.log1p(-uniform)
    return value.to(draw.device, draw.dtype).reshape(draw.shape)
