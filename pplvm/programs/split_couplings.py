"""Couplings of vectors or images that alternate which half moves, with networks of their own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Transform

from pplvm.distributions.transforms.affine_coupling import AffineCoupling
from pplvm.distributions.transforms.cached_pair import CachedPair
from pplvm.distributions.transforms.mixture_coupling import MixtureCoupling
from pplvm.networks.coupling_networks import ConvolutionalCouplingNetwork, DenseCouplingNetwork
from pplvm.programs.coupling_flows import Reordering
from pplvm.programs.split_orders import SplitOrder, split_orders

__all__ = ["CouplingKind", "SplitCouplings", "affine", "coupling_network", "mixture"]


class CouplingKind(NamedTuple):
    """A kind of coupling: how it is made of a network and D, and the numbers that it needs for a coordinate."""

    make: Callable[[Callable[[Tensor], Tensor], int], CachedPair]
    start: tuple[float, ...]  # the numbers with which it starts


def affine() -> CouplingKind:
    """`AffineCoupling`, which starts as the identity."""
    return CouplingKind(AffineCoupling, (0.0, 0.0))


def mixture(num_components: int = 4) -> CouplingKind:
    """`MixtureCoupling`, whose means start apart."""
    if num_components < 1:
        raise ValueError(f"num_components of a mixture coupling must be at least 1, got {num_components!r}")
    means = [2 * (i + 0.5) / num_components - 1 for i in range(num_components)]
    zeros = [0.0] * num_components
    return CouplingKind(partial(MixtureCoupling, num_components=num_components), (*zeros, *means, *zeros, 0.0, 0.0))


class SplitCouplings(nn.Module):
    """A chain of couplings, from values to noise.

    Arguments:
        shape: (D,) of vectors, or (C, H, W) of images, which are squeezed; values are flattened.
        num_couplings: an even number.
        kind: of the couplings.
        channels: hidden, of each network.
        conditional: whether the networks are also given a context (..., D).

    Raises:
        ValueError: as of `split_orders`.

    Example:
        >>> chain = SplitCouplings((1, 4, 4), num_couplings=2, kind=affine(), channels=8)
        >>> [type(each).__name__ for each in chain()]
        ['Permutation', 'AffineCoupling', 'Permutation', 'AffineCoupling', 'Permutation']
    """

    def __init__(
        self, shape: Sequence[int], num_couplings: int, kind: CouplingKind, channels: int, conditional: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.orders = kind, nn.ModuleList()
        networks, before = [], None
        for split in split_orders(shape, num_couplings):
            networks.append(coupling_network(split, kind.start, channels, conditional))
            self.orders.append(Reordering(split.order if before is None else before.argsort()[split.order]))
            before = split.order
        assert before is not None
        self.back = Reordering(before.argsort())
        self.networks = nn.ModuleList(networks)
        self.size, self.conditional = len(before), conditional

    def forward(self, context: Tensor | None = None) -> list[Transform]:
        transforms: list[Transform] = []
        for reordering, network in zip(self.orders, self.networks, strict=True):
            if context is not None:
                context = context.index_select(-1, reordering.order)
                transforms += [reordering(), self.kind.make(partial(network, context=context), self.size)]
            else:
                transforms += [reordering(), self.kind.make(network, self.size)]
        return [*transforms, self.back()]


def coupling_network(
    split: SplitOrder, start: Sequence[float], channels: int, conditional: bool
) -> ConvolutionalCouplingNetwork | DenseCouplingNetwork:
    """The network of one coupling, which gives the numbers `start` for each coordinate that moves, until trained."""
    moved = split.moved[0]
    context = (split.given[0] + moved) if conditional else 0
    if len(split.given) == 3:
        network = ConvolutionalCouplingNetwork(split.given, len(start) * moved, channels, context_channels=context)
    else:
        network = DenseCouplingNetwork(split.given[0], len(start) * moved, channels, context)
    with torch.no_grad():
        assert network.last.bias is not None
        network.last.bias.copy_(torch.tensor(start).repeat_interleave(moved))
    return network
