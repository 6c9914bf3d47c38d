"""Posteriors and priors of variational autoencoders that are autoregressive flows.

posterior    z = t_T(.. t_1(z_0)), z_0 ~ N(loc, scale^2), each of a context of x     draws in one pass
prior        u = t_T(.. t_1(z)), u ~ N(0, I)                                         densities in one pass
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.transforms.affine_autoregressive import AffineAutoregressive, bounded_scale
from pplvm.networks.masked import MADE
from pplvm.programs.sizes import require_sizes

__all__ = ["AutoregressiveFlowPrior", "IAFPosterior"]

Affine = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class IAFPosterior(nn.Module):
    """An encoder whose posterior is an inverse autoregressive flow.

        loc, log_scale, h = network(x),   z_0 ~ N(loc, scale^2),   z_t = flow_t(z_t-1; h),   q(z | x) of z = z_T

    It starts as the diagonal normal with these loc and log_scale, if `affine` is the default. The order of the
    coordinates is reversed from each flow to the next, and h is projected once a datum.

    Arguments:
        network: x (B, *shape) to (B, 2 Z + C) numbers: loc, log_scale and h.
        latent_size: Z.
        context_size: C, of h.
        num_flows: T, at least 1.
        flow_hidden_sizes: widths of each flow's autoregressive network.
        affine: see `AffineAutoregressive`; with `sigmoid_gate()` the flows of Kingma et al.

    Raises:
        ValueError: there is no flow; a size is below 1; the network gives another number of outputs.

    Example:
        >>> from pplvm.networks.dense import MLP
        >>> encoder = IAFPosterior(MLP(6, 2 * 3 + 4), latent_size=3, context_size=4)
        >>> encoder(torch.zeros(5, 6)).rsample((7,)).shape
        torch.Size([7, 5, 3])

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improved variational inference with inverse
        autoregressive flow, 2016, arXiv:1606.04934
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        latent_size: int,
        context_size: int,
        num_flows: int = 2,
        flow_hidden_sizes: Sequence[int] = (200,),
        affine: Affine | None = None,
    ) -> None:
        super().__init__()
        self.network, self.latent_size, self.context_size = network, latent_size, context_size
        self.flows = _flows(latent_size, num_flows, flow_hidden_sizes, context_size)
        self.affine = bounded_scale() if affine is None else affine

    def forward(self, x: Tensor) -> dist.TorchDistribution:
        found, sizes = self.network(x), (self.latent_size, self.latent_size, self.context_size)
        if found.shape[-1] != sum(sizes):
            raise ValueError(
                f"IAFPosterior: the network gives {found.shape[-1]} numbers a datum, and loc, log_scale and context "
                f"have {' + '.join(map(str, sizes))} = {sum(sizes)}"
            )
        loc, log_scale, context = found.split(sizes, -1)
        flows = cast(Iterable[MADE], self.flows)
        steps = [AffineAutoregressive(flow, flow.order, flow.project(context), self.affine) for flow in flows]
        return dist.TransformedDistribution(dist.Normal(loc, log_scale.exp()).to_event(1), steps)


class AutoregressiveFlowPrior(nn.Module):
    """A prior that is an autoregressive flow: p(z) = N(u; 0, I) |du/dz|, u = flow_T(.. flow_1(z)).

    It starts as N(0, I), if `affine` is the default. Densities take one pass of each network, draws Z passes.

    Arguments:
        latent_size: Z.
        num_flows: T, at least 1; the order of the coordinates is reversed from each to the next.
        flow_hidden_sizes: widths of each flow's autoregressive network.
        affine: see `AffineAutoregressive`.

    Raises:
        ValueError: there is no flow; a size is below 1.

    Example:
        >>> prior = AutoregressiveFlowPrior(3)
        >>> prior().log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])

    References:
        Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever and Abbeel, Variational lossy autoencoder, 2017,
        arXiv:1611.02731
    """

    zeros: Tensor

    def __init__(
        self,
        latent_size: int,
        num_flows: int = 2,
        flow_hidden_sizes: Sequence[int] = (200,),
        affine: Affine | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_size), persistent=False)
        self.flows = _flows(latent_size, num_flows, flow_hidden_sizes)
        self.affine = bounded_scale() if affine is None else affine

    def forward(self) -> dist.TorchDistribution:
        steps = [AffineAutoregressive(flow, flow.order, affine=self.affine).inv for flow in reversed(self.flows)]
        return dist.TransformedDistribution(dist.Normal(self.zeros, 1.0).to_event(1), steps)


def _flows(size: int, number: int, hidden_sizes: Sequence[int], context_size: int = 0) -> nn.ModuleList:
    if number < 1:
        raise ValueError(f"num_flows must be at least 1, got {number}: without a flow it is a normal")
    require_sizes("autoregressive flow", "flow_hidden_sizes", hidden_sizes, "the widths of hidden layers", "200")
    orders = [range(size), range(size - 1, -1, -1)]
    return nn.ModuleList(
        MADE(size, hidden_sizes, order=orders[t % 2], context_size=context_size, zero_init=True) for t in range(number)
    )
