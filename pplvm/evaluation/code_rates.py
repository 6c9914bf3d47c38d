"""Bits of codes and of data apart: what it costs to send a datum as its codes, and then itself given these.

    codes    E_q[log q(v | x) - log p(v)],   -log p(v) under a point posterior
    data     -E_q[log p(x | v)]
    both     minus the program's own bound, an upper bound on -log p(x)

Under a uniform prior the codes of N positions of K cost N log2 K bits.

References:
    van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
"""

import math
from collections.abc import Mapping

from torch import Tensor

from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.rate_distortion import RateDistortion

__all__ = ["code_figures", "own_bound"]

OWN_BOUND = "codes and data, own bound"
"""The figure's name, also where runs stand side by side."""


def code_figures(
    rates: RateDistortion, sites: Mapping[str, tuple[int, int]], dims: int, discrete: bool
) -> list[Figure]:
    """The costs of codes, of data given codes, and of both, in nats, bits and bits per dimension.

    Arguments:
        rates: of the program's own guide.
        sites: (N, K) of each site of codes, as `code_sites` gives them.
        dims: D of a datum.
        discrete: whether the data have probabilities, and not densities; without, no bits are told of them.

    Example:
        >>> import torch
        >>> rates = RateDistortion({"codes": torch.full((3,), 4 * math.log(16))}, {"x": torch.ones(3)}, (), 1)
        >>> for figure in code_figures(rates, {"codes": (4, 16)}, 64, True)[:3]:
        ...     print(figure)
        codes 11.09 +- 0 nats (4 codes of 16: 16.0 bits under a uniform prior)
        codes, bits 16.00 +- 0 bits
        codes, bits/dim 0.25 +- 0 bits/dim
    """
    other = {name: rate for name, rate in rates.rate_sites.items() if name not in sites and bool(rate.any())}
    codes = rates.rate - sum(other.values(), start=rates.rate * 0)
    rows: list[tuple[str, Tensor, str]] = [("codes", codes, _under_uniform(sites))]
    if len(sites) > 1:
        rows += [
            (f"codes of {name}", rates.rate_sites[name], _under_uniform({name: shape})) for name, shape in sites.items()
        ]
    rows += [(f"rate of {name}", rate, "beside the codes") for name, rate in other.items()]
    rows += [
        ("data given codes", rates.distortion, ""),
        (OWN_BOUND, rates.rate + rates.distortion, "by the program's own guide"),
    ]
    found = []
    for name, nats, note in rows:
        found.append(mean_of(name, nats, note=note))
        if discrete:
            found.append(mean_of(f"{name}, bits", nats / math.log(2), "bits"))
            found.append(mean_of(f"{name}, bits/dim", nats / (dims * math.log(2)), "bits/dim"))
    return found


def _under_uniform(sites: Mapping[str, tuple[int, int]]) -> str:
    told = " and ".join(f"{N} codes of {K}" for N, K in sites.values())
    return f"{told}: {sum(N * math.log2(K) for N, K in sites.values()):.1f} bits under a uniform prior"


def own_bound(figures: list[Figure]) -> dict[str, float]:
    """Codes, data given codes and both of `code_figures` by name, in nats, and both in bits/dim if there are bits."""
    names = ("codes", "data given codes", OWN_BOUND, f"{OWN_BOUND}, bits/dim")
    return {figure.name: figure.value for figure in figures if figure.name in names}
