"""A finite mixture whose density fits in memory, for priors of many components.

p(z) = sum_c w_c p_c(z),     log p(z) = logsumexp_c [ log w_c + log p_c(z) ]
"""

from collections.abc import Sequence
from math import log, pi, prod
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

__all__ = ["MixturePrior"]

MOST_NUMBERS = 2**22
"""Numbers held at once where values meet components: 16 MB in float32, above which chunks are no slower."""


class MixturePrior(TorchDistribution):
    """A mixture of C distributions of one family, evaluated for some values at a time.

        log p(z) = logsumexp_c [ log w_c + log p_c(z) ]

    Plates and particles enlarge the batch of the mixture and leave its components alone; values are taken in chunks, so
    that K particles of B data never meet all components at once, (K, B, C, Z). Draws have no path (`has_rsample` is
    False): which component a draw is from is discrete. Nothing needs one of a prior, but the estimators that
    reparameterize the model's latents too.

    Arguments:
        components: batch (..., C), the rightmost dimension counts the components.
        logits: (..., C), log weights up to a constant; equal weights unless given.

    Raises:
        ValueError: the components have no batch dimension, or the logits are of another number, or nan, if arguments
            are validated.

    Example:
        >>> import pyro.distributions as dist
        >>> prior = MixturePrior(dist.Normal(torch.linspace(-2, 2, 3)[:, None].expand(3, 5), 0.5).to_event(1))
        >>> prior.sample((7,)).shape, prior.log_prob(torch.zeros(4, 7, 5)).shape
        (torch.Size([7, 5]), torch.Size([4, 7]))

    References:
        Tomczak and Welling, VAE with a VampPrior, 2018, arXiv:1705.07120
    """

    has_rsample = False

    def __init__(
        self, components: Distribution, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        if not components.batch_shape:
            raise ValueError(
                "MixturePrior: the components have no batch dimension to be counted by: give them batch shape (C,)"
            )
        C = components.batch_shape[-1]
        if logits is not None and logits.shape[-1:] != (C,):
            raise ValueError(
                f"MixturePrior: logits of shape {tuple(logits.shape)} are not of {C} components: give (C,)"
            )
        self.components = components
        self.log_weights = None if logits is None else logits.log_softmax(-1)  # (..., C)
        of_logits = () if logits is None else logits.shape[:-1]
        self._own = torch.broadcast_shapes(components.batch_shape[:-1], of_logits)
        super().__init__(self._own, components.event_shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, Constraint]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {} if self.log_weights is None else {"log_weights": constraints.real_vector}

    @property
    def num_components(self) -> int:
        return self.components.batch_shape[-1]

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return MixtureSameFamilyConstraint(self.components.support)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "MixturePrior":
        shape = torch.Size(batch_shape)
        if torch.broadcast_shapes(shape, self.batch_shape) != shape:
            raise ValueError(f"MixturePrior: batch shape {tuple(self.batch_shape)} does not expand to {tuple(shape)}")
        new: Any = self._get_checked_instance(MixturePrior, _instance)
        new.components, new.log_weights, new._own = self.components, self.log_weights, self._own
        super(MixturePrior, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._averaged(self.components.mean)

    @property
    def variance(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        mean = self._averaged(self.components.mean).unsqueeze(-1 - self.event_dim)
        return self._averaged(self.components.variance + (self.components.mean - mean).square())

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        batch = torch.broadcast_shapes(value.shape[: value.dim() - self.event_dim], self.batch_shape)
        rows = value.expand(batch + self.event_shape).reshape(
            -1, *batch[len(batch) - len(self._own) :], *self.event_shape
        )
        found = [self._log_prob_of_rows(few) for few in rows.split(self._rows_at_once())]
        return (found[0] if len(found) == 1 else torch.cat(found)).reshape(batch)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape
            N = prod(shape[: len(shape) - len(self._own)])
            at_once = self._rows_at_once()
            found = [self._rows(min(at_once, N - start)) for start in range(0, max(N, 1), at_once)]
            return torch.cat(found).reshape(shape + self.event_shape)

    def _rows(self, N: int) -> Tensor:
        """Draws (N, *own batch, *event)."""
        own, C = self.batch_shape[len(self.batch_shape) - len(self._own) :], self.num_components
        draws = self.components.expand((*own, C)).sample(torch.Size((N,)))  # (N, *own, C, *event)
        weights = torch.zeros(C, device=draws.device) if self.log_weights is None else self.log_weights
        which = Categorical(logits=weights.expand(*own, C)).sample(torch.Size((N,)))  # (N, *own)
        index = which.reshape(*which.shape, 1, *(1,) * self.event_dim).expand(*which.shape, 1, *self.event_shape)
        return draws.gather(which.dim(), index).squeeze(which.dim())

    def _log_prob_of_rows(self, rows: Tensor) -> Tensor:
        joint = _of_each(self.components, rows.unsqueeze(-1 - self.event_dim))  # (n, *own, C)
        if self.log_weights is None:
            return joint.logsumexp(-1) - log(self.num_components)
        return (joint + self.log_weights).logsumexp(-1)

    def _rows_at_once(self) -> int:
        return max(1, MOST_NUMBERS // max(1, prod(self._own) * self.num_components * prod(self.event_shape)))

    def _averaged(self, of_each: Tensor) -> Tensor:
        """The mean over components of (..., C, *event), weighted, on the batch of the mixture."""
        if self.log_weights is None:
            found = of_each.mean(-1 - self.event_dim)
        else:
            weights = self.log_weights.exp().reshape(*self.log_weights.shape, *(1,) * self.event_dim)
            found = (weights * of_each).sum(-1 - self.event_dim)
        return found.expand(self.batch_shape + self.event_shape)


def _of_each(components: Distribution, value: Tensor) -> Tensor:
    """Log-densities (n, ..., C) of values (n, ..., 1, *event), by matrix products where components are Gaussian."""
    normal: Any = components.base_dist if isinstance(components, Independent) else None
    is_plain = isinstance(normal, Normal) and type(normal).log_prob is Normal.log_prob  # no subclass's own
    if not is_plain or len(components.event_shape) != 1:
        return components.log_prob(value)
    return _of_diagonal_normals(value, normal.loc, normal.scale)


def _of_diagonal_normals(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """The value from differences, exact however small the scales are, its gradient from matrix products.

    Autograd of the differences would keep several tensors (n, C, Z) and take ten times as long.

    Arguments:
        z: (n, ..., 1, Z).
        loc, scale: (..., C, Z).
    """
    with torch.no_grad():
        inverse = scale.reciprocal()
        rows = [each.mT.contiguous().unbind(-2) for each in (-loc * inverse, z, inverse)]  # by coordinate
        distance = sum((torch.addcmul(*each).square() for each in zip(*rows, strict=True)), start=z.new_zeros(()))
    center = loc.detach().mean(-2, keepdim=True)  # any would do, and a near one cancels fewer digits
    from_center, to_loc, precision = z - center, loc - center, scale.square().reciprocal()
    product = from_center.square() @ precision.mT - 2 * from_center @ (to_loc * precision).mT
    product = product.squeeze(-2) + (to_loc.square() * precision).sum(-1)
    distance = distance + (product - product.detach())
    return -0.5 * distance - scale.log().sum(-1) - z.shape[-1] * log(2 * pi) / 2
