"""A normal distribution given by what moves it away from a prior normal distribution."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints, register_kl
from torch.distributions.utils import broadcast_all

__all__ = ["ResidualNormal"]


class ResidualNormal(dist.Normal):
    """A posterior given relative to a prior normal distribution, which it equals where both residuals are zero.

        prior = N(m, s^2),   q = N(m + s d_loc, (s exp(d_log_scale))^2)
        KL(q || prior) = (d_loc^2 + exp(2 d_log_scale) - 1 - 2 d_log_scale) / 2

    The KL to any other normal is known too: no formula supposes that the prior of the model is the one given here.
    Bound d_log_scale in the network that gives it (`pplvm.networks.soft_clamp`): its exponential overflows.

    Arguments:
        prior_loc, prior_scale: m and s, any batch shape; scale positive.
        d_loc, d_log_scale: the residuals, broadcast against m and s.

    Raises:
        ValueError: a parameter is nan, or s is not positive, if arguments are validated.

    Example:
        >>> from torch.distributions import kl_divergence
        >>> prior = dist.Normal(torch.zeros(3), 2.0)
        >>> q = ResidualNormal(prior.loc, prior.scale, torch.ones(3), torch.zeros(3))
        >>> q.loc, kl_divergence(q, prior)
        (tensor([2., 2., 2.]), tensor([0.5000, 0.5000, 0.5000]))

    References:
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898, section 3.2
    """

    arg_constraints = {
        "prior_loc": constraints.real,
        "prior_scale": constraints.positive,
        "d_loc": constraints.real,
        "d_log_scale": constraints.real,
    }

    prior_loc: Tensor
    prior_scale: Tensor
    d_loc: Tensor
    d_log_scale: Tensor

    def __init__(
        self,
        prior_loc: Tensor | float,
        prior_scale: Tensor | float,
        d_loc: Tensor | float,
        d_log_scale: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        parameters = broadcast_all(prior_loc, prior_scale, d_loc, d_log_scale)
        self.prior_loc, self.prior_scale, self.d_loc, self.d_log_scale = parameters
        loc, scale = self.prior_loc + self.prior_scale * self.d_loc, self.prior_scale * self.d_log_scale.exp()
        super().__init__(loc, scale, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ResidualNormal":
        new: Any = self._get_checked_instance(ResidualNormal, _instance)
        shape = torch.Size(batch_shape)
        for name in ("prior_loc", "prior_scale", "d_loc", "d_log_scale", "loc", "scale"):
            setattr(new, name, getattr(self, name).expand(shape))
        Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


@register_kl(ResidualNormal, Normal)
def _kl_to_normal(q: ResidualNormal, p: Normal) -> Tensor:
    """Right under any normal p, and the residual form to the last bit where p is the prior: the differences are 0."""
    shift = (q.prior_scale * q.d_loc + (q.prior_loc - p.loc)) / p.scale
    return _kl(shift, q.d_log_scale + (q.prior_scale.log() - p.scale.log()))


@register_kl(ResidualNormal, ResidualNormal)
def _kl_to_residual(q: ResidualNormal, p: ResidualNormal) -> Tensor:
    """Differences of equal parts, which are 0 where the distributions have one prior, or are one."""
    away = q.prior_scale * q.d_loc - p.prior_scale * p.d_loc
    ratio = (q.d_log_scale - p.d_log_scale) + (q.prior_scale.log() - p.prior_scale.log())
    return _kl((away + (q.prior_loc - p.prior_loc)) / p.scale, ratio)


def _kl(shift: Tensor, log_ratio: Tensor) -> Tensor:
    return (shift.square() + torch.expm1(2 * log_ratio) - 2 * log_ratio) / 2
