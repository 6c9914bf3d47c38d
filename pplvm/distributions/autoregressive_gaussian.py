"""A stationary Gaussian autoregression of order 1, with its KL from independent normals in closed form.

p(z_1) = N(0, 1),   p(z_t | z_t-1) = N(alpha z_t-1, 1 - alpha^2),   cov(z_s, z_t) = alpha^|s - t|
"""

from collections.abc import Sequence
from math import log, pi
from typing import Any

import torch
from pyro.distributions import TorchDistribution, TransformedDistribution, constraints
from pyro.distributions.transforms import AffineTransform
from torch import Tensor
from torch.distributions import Independent, Normal, register_kl

__all__ = ["AutoregressiveGaussian", "least_divergence"]


class AutoregressiveGaussian(TorchDistribution):
    """AR(1): n steps of d coordinates, each a chain of its own, N(0, 1) at every step.

        z_1 = e_1,   z_t = alpha z_t-1 + sqrt(1 - alpha^2) e_t,   e_t ~ N(0, 1)

    Arguments:
        alpha: (..., d), the correlation of neighbours, from 0, which is N(0, I), to below 1.
        length: n, at least 1.

    Raises:
        ValueError: alpha lies outside [0, 1), if arguments are validated, or has no dimension; length is below 1.

    Example:
        >>> prior = AutoregressiveGaussian(torch.tensor([0.3, 0.9]), length=5)
        >>> prior.event_shape, prior.rsample((3,)).shape, prior.log_prob(torch.zeros(3, 5, 2)).shape
        (torch.Size([5, 2]), torch.Size([3, 5, 2]), torch.Size([3]))

    References:
        Razavi, van den Oord, Poole and Vinyals, Preventing posterior collapse with delta-VAEs, 2019, arXiv:1901.03416
    """

    arg_constraints = {  # pyright: ignore[reportAssignmentType]
        "alpha": constraints.independent(constraints.half_open_interval(0.0, 1.0), 1)
    }
    support = constraints.independent(constraints.real, 2)  # pyright: ignore[reportAssignmentType]
    has_rsample = True

    def __init__(self, alpha: Tensor, length: int, validate_args: bool | None = None) -> None:
        if alpha.dim() < 1:
            raise ValueError("AutoregressiveGaussian: alpha has no dimension: give one number a coordinate, (d,)")
        if length < 1:
            raise ValueError(f"AutoregressiveGaussian: length must be at least 1, got {length}")
        self.alpha, self.length = alpha, length
        super().__init__(alpha.shape[:-1], torch.Size((length, alpha.shape[-1])), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "AutoregressiveGaussian":
        new: Any = self._get_checked_instance(AutoregressiveGaussian, _instance)
        shape = torch.Size(batch_shape)
        new.alpha, new.length = self.alpha.expand(shape + self.alpha.shape[-1:]), self.length
        super(AutoregressiveGaussian, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.zeros_like(self.alpha).unsqueeze(-2).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.ones_like(self.alpha).unsqueeze(-2).expand(self.batch_shape + self.event_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """One product of the noise with the Cholesky factor of the covariance."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        noise = torch.randn(shape, dtype=self.alpha.dtype, device=self.alpha.device)
        return torch.einsum("...tsd,...sd->...td", self._factor(), noise)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        innovation, n = self._rest(), self.length  # (..., d)
        first, later = value[..., 0, :], value[..., 1:, :] - self.alpha.unsqueeze(-2) * value[..., :-1, :]
        squares = first.square() + later.square().sum(-2) / innovation
        per_chain = -(squares + (n - 1) * innovation.log() + n * log(2 * pi)) / 2
        return per_chain.sum(-1).expand(torch.broadcast_shapes(value.shape[:-2], self.batch_shape))

    def at_temperature(self, temperature: float) -> TransformedDistribution:
        """The chains with every step's deviation multiplied by T: of covariance T^2 alpha^|s - t|."""
        return TransformedDistribution(self, [AffineTransform(0.0, temperature)])

    def _rest(self) -> Tensor:
        """1 - alpha^2, the variance of a step given the one before."""
        return (1 - self.alpha) * (1 + self.alpha)

    def _factor(self) -> Tensor:
        """L[t, s] = alpha^(t-s) for s = 1, times sqrt(1 - alpha^2) for s > 1: (..., n, n, d), lower triangular in n."""
        steps = torch.arange(self.length, device=self.alpha.device)
        lag = (steps[:, None] - steps).unsqueeze(-1)  # (n, n, 1)
        powers = self.alpha[..., None, None, :] ** lag.clamp(min=0)  # (..., n, n, d)
        root = self._rest().sqrt()[..., None, None, :].where((steps > 0).unsqueeze(-1), 1.0)
        return powers * (lag >= 0) * root


def least_divergence(alpha: Tensor, length: int) -> Tensor:
    """The least KL of any product of n d independent normals from AR(1), in nats.

        1/2 sum_d [ (n - 2) log(1 + alpha_d^2) - log(1 - alpha_d^2) ]      n >= 2;   0 for n = 1

    It is attained by means 0 and variances (1 - alpha^2) / (1 + alpha^2) inside, 1 - alpha^2 at both ends.

    Arguments:
        alpha: (..., d).
        length: n.

    Example:
        >>> least_divergence(torch.tensor([0.5]), length=2)  # -log(1 - 0.25) / 2
        tensor(0.1438)

    References:
        Razavi, van den Oord, Poole and Vinyals, Preventing posterior collapse with delta-VAEs, 2019, arXiv:1901.03416
    """
    if length < 2:
        return torch.zeros_like(alpha).sum(-1)
    square = alpha.square()
    return ((length - 2) * square.log1p() - (-square).log1p()).sum(-1) / 2


@register_kl(Independent, AutoregressiveGaussian)
def _kl_of_independent_normals(q: Independent, p: AutoregressiveGaussian) -> Tensor:
    """E_q of the quadratic form of AR(1), whose neighbours are independent under q."""
    normal: Any = q.base_dist
    while isinstance(normal, Independent):
        normal = normal.base_dist
    if not isinstance(normal, Normal) or q.event_shape != p.event_shape:
        raise NotImplementedError
    mean, variance = normal.loc, normal.scale.square()  # (..., n, d)
    alpha, rest, n = p.alpha, p._rest(), p.length
    jumps = mean[..., 1:, :] - alpha.unsqueeze(-2) * mean[..., :-1, :]
    spread = variance[..., 1:, :] + alpha.square().unsqueeze(-2) * variance[..., :-1, :]
    first = mean[..., 0, :].square() + variance[..., 0, :]
    squares = first + (jumps.square() + spread).sum(-2) / rest
    per_chain = (squares + (n - 1) * rest.log() - n) / 2 - normal.scale.log().sum(-2)
    return per_chain.sum(-1)
