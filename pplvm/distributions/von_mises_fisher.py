"""The von Mises-Fisher distribution on the sphere in three dimensions, where its normalizer is elementary."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.constraints import Constraint

from pplvm.distributions.power_spherical import on_common_batch, tangent_to
from pplvm.distributions.spherical_uniform import SphericalUniform, log_sphere_area, require_same_sphere

__all__ = ["VonMisesFisher"]


class VonMisesFisher(TorchDistribution):
    """The von Mises-Fisher distribution on the unit sphere in three dimensions.

        p(z) = kappa / (2 pi (1 - exp(-2 kappa))) exp(kappa (loc' z - 1))

    Its draws are by inversion, t = loc' z = 1 + log(u + (1 - u) exp(-2 kappa)) / kappa, and turn with loc as those of
    `PowerSpherical`.

    Arguments:
        loc: (..., 3), the mean direction, of length 1.
        concentration: (...), kappa, positive.

    Raises:
        ValueError: loc has other than three coordinates or is not of length 1, or concentration is not positive.

    Example:
        >>> north = torch.tensor([0.0, 0.0, 1.0])
        >>> q = VonMisesFisher(north, torch.tensor([1.0, 100.0]))
        >>> q.rsample((4,)).shape, torch.distributions.kl_divergence(q, SphericalUniform(3))
        (torch.Size([4, 2, 3]), tensor([0.1516, 4.2983]))

    References:
        Fisher, Dispersion on a sphere, 1953
        Ulrich, Computer generation of distributions on the m-sphere, 1984
        Davidson, Falorsi, De Cao, Kipf and Tomczak, Hyperspherical variational auto-encoders, 2018, arXiv:1804.00891
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "loc": constraints.sphere,
        "concentration": constraints.positive,
    }
    support = constraints.sphere  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, *, validate_args: bool | None = None) -> None:
        if loc.shape[-1] != 3:
            raise ValueError(
                "VonMisesFisher: loc must have 3 coordinates, where it is drawn without rejection, got "
                f"{loc.shape[-1]}: use PowerSpherical in other dimensions"
            )
        self.loc, self.concentration = on_common_batch(loc, concentration)
        super().__init__(
            torch.Size(self.concentration.shape), torch.Size(self.loc.shape[-1:]), validate_args=validate_args
        )

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def mean(self) -> Tensor:
        """(coth kappa - 1 / kappa) loc."""
        kappa = self.concentration
        series = kappa / 3 - kappa**3 / 45 + 2 * kappa**5 / 945  # where the difference cancels
        inner = kappa.clamp(min=SMALL)
        length = torch.where(kappa < SMALL, series, 1 / torch.tanh(inner) - 1 / inner)
        return length.unsqueeze(-1) * self.loc

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "VonMisesFisher":
        parts = self.loc.expand(*batch_shape, -1), self.concentration.expand(torch.Size(batch_shape))
        new = VonMisesFisher(*parts, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        loc, kappa = self.loc.expand(shape), self.concentration.expand(shape[:-1])
        tiny = torch.finfo(loc.dtype).tiny
        u = torch.rand_like(kappa).clamp(min=torch.finfo(loc.dtype).eps)
        gap = (-torch.log1p(u * torch.expm1(-2 * kappa)) / kappa).unsqueeze(-1)  # 1 - loc' z
        across = tangent_to(loc)
        across = across / across.norm(dim=-1, keepdim=True).clamp(min=tiny)
        z = (1 - gap) * loc + (gap * (2 - gap)).clamp(min=tiny).sqrt() * across
        return z / z.norm(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        gap = (value - self.loc).square().sum(-1) / 2  # 1 - loc' z, with all its digits where z is close to loc
        return self._log_ratio() - self.concentration * gap - math.log(4 * math.pi)

    def entropy(self) -> Tensor:
        return log_sphere_area(3) - _to_uniform(self)

    def _log_ratio(self) -> Tensor:
        """log(2 kappa / (1 - exp(-2 kappa)))."""
        return (2 * self.concentration / -torch.expm1(-2 * self.concentration)).log()


SMALL = 0.05
"""Below it kappa^7 / 4725, the first term that the series of the mean leaves out, is less than 2e-13."""


@register_kl(VonMisesFisher, SphericalUniform)
def _von_mises_fisher_from_uniform(q: VonMisesFisher, p: SphericalUniform) -> Tensor:
    require_same_sphere(3, p.dim)
    return _to_uniform(q).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


def _to_uniform(q: VonMisesFisher) -> Tensor:
    """log(2 kappa / (1 - exp(-2 kappa))) + kappa (coth kappa - 1) - 1."""
    kappa = q.concentration
    return q._log_ratio() + 2 * kappa * (-2 * kappa).exp() / -torch.expm1(-2 * kappa) - 1
