"""A multivariate normal whose KL from independent normals is known in closed form.

KL(N(m, L L^T) || N(a, diag(b^2))) = sum_i [ log b_i - log L_ii + ((m_i - a_i)^2 + sum_j L_ij^2) / (2 b_i^2) - 1/2 ]
"""

from typing import Any

from pyro.distributions import MultivariateNormal
from torch import Tensor
from torch.distributions import Independent, Normal, register_kl

__all__ = ["FullCovarianceNormal"]


class FullCovarianceNormal(MultivariateNormal):
    """Pyro's MultivariateNormal, for guides of full covariance whose prior is independent normals, such as N(0, I).

    torch knows the KL of two multivariate normals only.

    Arguments:
        loc: (..., Z).
        covariance_matrix, precision_matrix, scale_tril: (..., Z, Z), one of them.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> q = FullCovarianceNormal(torch.zeros(2), scale_tril=torch.eye(2))
        >>> kl_divergence(q, Independent(Normal(torch.ones(2), 1.0), 1))
        tensor(1.)

    References:
        Kingma and Welling, An introduction to variational autoencoders, 2019, arXiv:1906.02691, section 2.5.1
    """


@register_kl(FullCovarianceNormal, Independent)
def _kl_from_independent_normals(q: FullCovarianceNormal, p: Independent) -> Tensor:
    normal: Any = p.base_dist
    if not isinstance(normal, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    factor = q.scale_tril  # (..., Z, Z)
    spread = (q.loc - normal.loc).square() + factor.square().sum(-1)
    log_ratio = normal.scale.log() - factor.diagonal(dim1=-2, dim2=-1).log()
    return (log_ratio + spread / (2 * normal.scale.square()) - 0.5).sum(-1)
