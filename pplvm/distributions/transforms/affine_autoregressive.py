"""The affine autoregressive flow, whose two directions are IAF and MAF.

y_i = loc_i + exp(log_scale_i) x_i,     loc_i, log_scale_i of x_j, j before i
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pplvm.distributions.transforms.cached_pair import CachedPair

__all__ = ["AffineAutoregressive", "bounded_scale", "sigmoid_gate"]


class AffineAutoregressive(CachedPair):
    """An affine map of each coordinate that depends on the coordinates of its input before it.

        y_i = loc_i + exp(log_scale_i) x_i,     loc_i, log_scale_i of x_j, j before i in the order, and a context
        log |dy/dx| = sum_i log_scale_i

    Forward is the parallel direction, one pass; the inverse takes D passes. As the transform of a distribution it is
    an inverse autoregressive flow (IAF): draws in one pass, and their own density in no other; the density of other
    values takes D. Its inverse, `.inv`, is a masked autoregressive flow (MAF): densities in one pass, draws in D.

    Make it anew for each batch, with the batch's context.

    Arguments:
        network: from x (..., D) to (..., 2, D) numbers that keep to the order, as `pplvm.networks.masked.MADE`; it is
            called with the context as second argument if there is one.
        order: the coordinates from first to last, a permutation of 0 .. D - 1.
        context: (*batch_shape, H), as the network takes it, say projected once for all particles; None for none.
        affine: from the two numbers (..., D) each to loc and log_scale: `bounded_scale()` or `sigmoid_gate()`.

    Raises:
        ValueError: the order is no permutation; the values are not of D coordinates; the batch shapes do not
            broadcast.

    Example:
        >>> from torch.distributions import Independent, Normal, TransformedDistribution
        >>> weight = torch.tensor([[0.0, 0.0], [0.5, 0.0]])  # y_1 depends on x_0
        >>> network = lambda x: torch.stack([x @ weight.T, x @ weight.T], -2)
        >>> base = Independent(Normal(torch.zeros(2), 1.0), 1)
        >>> iaf = TransformedDistribution(base, [AffineAutoregressive(network, order=(0, 1))])
        >>> maf = TransformedDistribution(base, [AffineAutoregressive(network, order=(0, 1)).inv])
        >>> iaf.log_prob(iaf.rsample((3,))).shape, maf.log_prob(torch.zeros(3, 2)).shape
        (torch.Size([3]), torch.Size([3]))

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improved variational inference with inverse
        autoregressive flow, 2016, arXiv:1606.04934
        Papamakarios, Pavlakou and Murray, Masked autoregressive flow for density estimation, 2017, arXiv:1705.07057
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        order: Sequence[int],
        context: Tensor | None = None,
        affine: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__(len(order))
        self.network, self.order, self.context = network, tuple(order), context
        self.affine = bounded_scale() if affine is None else affine
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(
                f"AffineAutoregressive: order must be a permutation of 0 .. {len(self.order) - 1}, got {self.order}"
            )

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = self._parameters(x)
        return loc + log_scale.exp() * x, log_scale.sum(-1)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.expand(self.inverse_shape(y.shape))
        coordinates = torch.eye(len(self.order), dtype=torch.bool, device=y.device)
        x, log_det = torch.zeros_like(y), torch.zeros_like(y[..., 0])
        for i in self.order:
            loc, log_scale = self._parameters(x)
            x = torch.where(coordinates[i], (y - loc) * (-log_scale).exp(), x)
            log_det = log_det + log_scale[..., i]
        return x, log_det

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """The shape of y, with the context's batch shape."""
        if len(shape) < 1 or shape[-1] != len(self.order):
            raise ValueError(
                f"AffineAutoregressive: a flow of {len(self.order)} coordinates was given values of shape "
                f"{tuple(shape)}: let their last dimension be of that size"
            )
        left = () if self.context is None else self.context.shape[:-1]
        try:
            return torch.broadcast_shapes(shape[:-1], left) + torch.Size(shape[-1:])
        except RuntimeError as error:
            raise ValueError(
                f"AffineAutoregressive: the batch shape {tuple(left)} of the context does not broadcast against values "
                f"of shape {tuple(shape)}: give a context for each"
            ) from error

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        return self.forward_shape(shape)

    def _parameters(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network(x) if self.context is None else self.network(x, self.context)
        first, second = found.unbind(-2)
        return self.affine(first, second)

    def __repr__(self) -> str:
        return f"AffineAutoregressive(order={self.order})"


def bounded_scale(bound: float = 3.0) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A shift and a log-scale within (-bound, bound), smooth: the identity for numbers of 0, and slope 1 there.

        loc = a,     log_scale = bound tanh(b / bound)

    Raises:
        ValueError: the bound is not above 0.
    """
    if not bound > 0:
        raise ValueError(f"bounded_scale: bound must be above 0, got {bound}")
    return lambda a, b: (a, bound * torch.tanh(b / bound))


def sigmoid_gate(bias: float = 1.5) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The gate of Kingma et al., which mixes each coordinate with what the network proposes.

        y = sigma x + (1 - sigma) a,     sigma = sigmoid(b + bias)

    Arguments:
        bias: of the gate: 1 to 2 keeps most of a coordinate at first.
    """

    def affine(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(-(b + bias)) * a, logsigmoid(b + bias)

    return affine
