"""The power spherical distribution: directions about a mean direction, drawn without rejection."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.constraints import Constraint

from pplvm.distributions.spherical_uniform import (
    SphericalUniform,
    log_sphere_area,
    require_dimension,
    require_same_sphere,
)

__all__ = ["PowerSpherical", "on_common_batch", "tangent_to"]


class PowerSpherical(TorchDistribution):
    """The power spherical distribution on the unit sphere in d dimensions.

        p(z) = C (1 + loc' z)^kappa,   -log C = (a + b) log 2 + b log pi + log Gamma(a) - log Gamma(a + b)

    with b = (d - 1)/2 and a = b + kappa, where (1 + loc' z)/2 is Beta(a, b).

        z = ((g - |e|^2/2) loc + sqrt(2 g) e) / (g + |e|^2/2),   g ~ Gamma(a, 1),   e ~ N(0, I) orthogonal to loc

    A draw turns with loc by the shortest rotation: its gradient is bounded, also at loc = (1, 0, ..., 0), where a
    reflection of that axis onto loc has none. It is a first derivative only.

    Arguments:
        loc: (..., d), the mean direction, of length 1, d at least 2.
        concentration: (...), kappa; 0 is the uniform distribution. Equal values do not give equal rates in other
            dimensions: the KL to the uniform distribution of kappa = 100 is 8.6 nats for d = 10, 14.4 for d = 40.

    Raises:
        ValueError: d is less than 2, loc is not of length 1, or concentration is negative.

    Example:
        >>> north = torch.tensor([0.0, 0.0, 1.0])
        >>> q = PowerSpherical(north, torch.tensor([1.0, 100.0]))
        >>> q.rsample((4,)).shape, torch.distributions.kl_divergence(q, SphericalUniform(3))
        (torch.Size([4, 2, 3]), tensor([0.1931, 3.6250]))

    References:
        De Cao and Aziz, The power spherical distribution, 2020, arXiv:2006.04437
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "loc": constraints.sphere,
        "concentration": constraints.nonnegative,
    }
    support = constraints.sphere  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, *, validate_args: bool | None = None) -> None:
        require_dimension(loc.shape[-1], type(self).__name__)
        self.loc, self.concentration = on_common_batch(loc, concentration)
        super().__init__(
            torch.Size(self.concentration.shape), torch.Size(self.loc.shape[-1:]), validate_args=validate_args
        )

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def mean(self) -> Tensor:
        a, b = self._shapes()
        return ((a - b) / (a + b)).to(self.loc.dtype).unsqueeze(-1) * self.loc

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "PowerSpherical":
        parts = self.loc.expand(*batch_shape, -1), self.concentration.expand(torch.Size(batch_shape))
        new = PowerSpherical(*parts, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        loc, kappa = self.loc.expand(shape), self.concentration.expand(shape[:-1])
        along = torch._standard_gamma(kappa + (shape[-1] - 1) / 2).unsqueeze(-1)
        across = tangent_to(loc)
        rest = across.square().sum(-1, keepdim=True) / 2
        z = (along - rest) * loc + (2 * along).sqrt() * across
        return z / z.norm(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        apart = (value - self.loc).square().sum(-1)  # 2 - 2 loc' z, with all its digits where z is close to loc
        log_share = torch.log1p(-(apart / 4).clamp(max=1 - torch.finfo(apart.dtype).eps))  # log (1 + loc' z) / 2
        return self.concentration * log_share + self._log_top().to(apart.dtype)

    def entropy(self) -> Tensor:
        return log_sphere_area(self.loc.shape[-1]) - _to_uniform(self)

    def _shapes(self) -> tuple[Tensor, float]:
        """a and b, in float64: log Gamma(a) - log Gamma(a + b) loses all digits of float32 where kappa is large."""
        b = (self.loc.shape[-1] - 1) / 2
        return self.concentration.double() + b, b

    def _log_top(self) -> Tensor:
        """The log density at loc."""
        return self.concentration.double() * math.log(2) - self._log_norm()

    def _log_norm(self) -> Tensor:
        """-log C."""
        a, b = self._shapes()
        return (a + b) * math.log(2) + b * math.log(math.pi) + torch.lgamma(a) - torch.lgamma(a + b)


def on_common_batch(loc: Tensor, concentration: Tensor) -> tuple[Tensor, Tensor]:
    """Directions (..., d) and concentrations (...) on one batch shape, and of one dtype."""
    concentration = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
    shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
    return loc.expand(*shape, -1), concentration.expand(shape)


def tangent_to(loc: Tensor) -> Tensor:
    """Standard normal vectors orthogonal to unit vectors (..., d), with the gradient of the shortest rotation.

        e = n - (n' loc0) loc0,   then e - (e' loc) loc,   loc0 = loc without its gradient

    Were loc not detached in the first step, the gradient's variance would be infinite on the sphere of d = 3.
    """
    fixed = loc.detach()
    noise = torch.randn_like(fixed)
    across = noise - (noise * fixed).sum(-1, keepdim=True) * fixed
    return across - (across * loc).sum(-1, keepdim=True) * loc


@register_kl(PowerSpherical, SphericalUniform)
def _power_spherical_from_uniform(q: PowerSpherical, p: SphericalUniform) -> Tensor:
    require_same_sphere(q.loc.shape[-1], p.dim)
    return _to_uniform(q).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


def _to_uniform(q: PowerSpherical) -> Tensor:
    """log area - entropy, E log(1 + loc' z) being log 2 + digamma(a) - digamma(a + b)."""
    a, b = q._shapes()
    kappa = q.concentration.double()
    expected = kappa * (math.log(2) + torch.digamma(a) - torch.digamma(a + b))
    return (expected - q._log_norm() + log_sphere_area(q.loc.shape[-1])).to(q.loc.dtype)
