"""The gradient rules of VQ-VAEs on sites that draw a code at random, for what they are: biased.

    v a one-hot, E (K, D) the codes, z (..., D) what is coded:     v moves like m A',  A = E (E'E)^-1  held still

    BiasedCodeStraightThrough    m = z               the code v E moves exactly as z does
    BiasedCodeRotation           m = (|e| / |z|) R z  as z does, turned and scaled as z would be to reach its code e

R is the rotation within the plane of z and e that takes z's direction to e's; it and the scale are held still. The
densities of v have no slope, as those of a deterministic code have none, and nothing but z is trained through the draw.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.biased import AsIfItMoved
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.contract import Site
from pplvm.particles.enumeration import coordinates

__all__ = [
    "BiasedCodeRotation",
    "BiasedCodeRotationRule",
    "BiasedCodeStraightThrough",
    "BiasedCodeStraightThroughRule",
]


class BiasedCodeStraightThrough(Sitewise):
    """VQ-VAE's straight-through rule at codes drawn at random: z gets the slope of f at the code as it is.

    Neither temperature nor codes are trained through the draw, and the entropy of the guide has no slope.

    Arguments:
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: on the first batch, a site without a path has no attributes `z` and `codes`.

    Example:
        >>> objective = BiasedCodeStraightThrough(num_particles=4)

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(BiasedCodeStraightThroughRule(), elbo, num_particles)


class BiasedCodeRotation(Sitewise):
    """The rotation trick at codes drawn at random: z gets the slope of f at the code, turned back and scaled.

    Arguments:
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: as `BiasedCodeStraightThrough`.

    Example:
        >>> objective = BiasedCodeRotation(num_particles=4)

    References:
        Fifty, Junkins, Duan, Iyengar, Liu, Amid, Thrun and Re, Restructuring vector quantization with the rotation
        trick, 2024, arXiv:2410.06424
    """

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(BiasedCodeRotationRule(), elbo, num_particles)


class _CodeMoves(AsIfItMoved):
    """The slope at the draw, as if its code moved with z."""

    def refusal(self, site: Site) -> str | None:
        if _draws_codes(coordinates(site["fn"])):
            return None
        return "its distribution has no attributes z and codes, so it draws no code: use BiasedStraightThrough"

    def _f(self, site: SiteDraw, place: Tensor, later: Callable[[Discrete, Tensor], Tensor]) -> Tensor:
        return site.f_moved(place, later)

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        single = family.single
        if not _draws_codes(single):  # a later site, of another rule
            return family.mean
        z, codes = single.z, single.codes.detach()
        return self._moved(z, draw @ codes) @ torch.linalg.pinv(codes.double()).to(codes)

    @abstractmethod
    def _moved(self, z: Tensor, code: Tensor) -> Tensor:
        """What the code moves like, (..., D)."""


class BiasedCodeStraightThroughRule(_CodeMoves):
    """The slope at the draw, as if its code moved as z does."""

    def _moved(self, z: Tensor, code: Tensor) -> Tensor:
        return z


class BiasedCodeRotationRule(_CodeMoves):
    """The slope at the draw, as if its code moved as z does, turned and scaled."""

    def _moved(self, z: Tensor, code: Tensor) -> Tensor:
        of_z, of_code = (v.detach().norm(dim=-1, keepdim=True) for v in (z, code))
        tiny = torch.finfo(z.dtype).tiny
        a, b = z.detach() / of_z.clamp(min=tiny), code / of_code.clamp(min=tiny)
        middle = (a + b) / (a + b).norm(dim=-1, keepdim=True).clamp(min=tiny)
        turned = z - 2 * middle * (middle * z).sum(-1, keepdim=True) + 2 * b * (a * z).sum(-1, keepdim=True)
        return torch.where(of_z > tiny, of_code / of_z.clamp(min=tiny) * turned, z)


def _draws_codes(fn: object) -> bool:
    return isinstance(getattr(fn, "z", None), Tensor) and isinstance(getattr(fn, "codes", None), Tensor)
