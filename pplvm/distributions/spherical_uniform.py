"""The uniform distribution on the unit sphere, and the area of that sphere."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.constraints import Constraint

__all__ = ["SphericalUniform", "log_sphere_area", "require_dimension", "require_same_sphere"]


class SphericalUniform(TorchDistribution):
    """The uniform distribution on the unit sphere in d dimensions, {z : |z| = 1}.

        log p(z) = -log(2 pi^(d/2) / Gamma(d/2))

    Arguments:
        dim: d, the length of z, at least 2.
        batch_shape: of independent draws.
        dtype, device: of the draws; torch's defaults unless given.

    Raises:
        ValueError: dim is less than 2.

    Example:
        >>> uniform = SphericalUniform(3)
        >>> z = uniform.sample((5,))
        >>> z.shape, uniform.log_prob(z).exp()[0].mul(4 * math.pi).round(decimals=4).item()
        (torch.Size([5, 3]), 1.0)

    References:
        Davidson, Falorsi, De Cao, Kipf and Tomczak, Hyperspherical variational auto-encoders, 2018, arXiv:1804.00891
    """

    arg_constraints: dict[str, Constraint] = {}  # pyright: ignore[reportIncompatibleMethodOverride]
    support = constraints.sphere  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    has_rsample = True

    def __init__(
        self,
        dim: int,
        batch_shape: Sequence[int] = (),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.dim = require_dimension(dim, type(self).__name__)
        self._zeros = torch.zeros(dim, dtype=dtype, device=device).expand(*batch_shape, -1)
        super().__init__(torch.Size(batch_shape), torch.Size([dim]), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self._zeros

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "SphericalUniform":
        shape = torch.Size(batch_shape)
        new: Any = self._get_checked_instance(SphericalUniform, _instance)
        new.dim, new._zeros = self.dim, self._zeros.expand(shape + self.event_shape)
        super(SphericalUniform, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        noise = torch.randn_like(self._zeros.expand(self._extended_shape(torch.Size(sample_shape))))
        return noise / noise.norm(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_sphere_area(self.dim))

    def entropy(self) -> Tensor:
        return self._zeros.new_full(self.batch_shape, log_sphere_area(self.dim))


def log_sphere_area(dim: int) -> float:
    """log(2 pi^(d/2) / Gamma(d/2)), the log area of the unit sphere in d dimensions."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def require_dimension(dim: int, name: str) -> int:
    """Refuse a sphere of less than two dimensions, which is two points."""
    if dim < 2:
        raise ValueError(f"{name}: a point on a sphere has at least 2 coordinates, got {dim}")
    return dim


def require_same_sphere(of_q: int, of_p: int) -> None:
    """Refuse the divergence between distributions on spheres of different dimensions."""
    if of_q != of_p:
        raise ValueError(f"points on spheres of {of_q} and {of_p} coordinates have no divergence from each other")


@register_kl(SphericalUniform, SphericalUniform)
def _uniform_from_uniform(q: SphericalUniform, p: SphericalUniform) -> Tensor:
    require_same_sphere(q.dim, p.dim)
    return q._zeros.new_zeros(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
