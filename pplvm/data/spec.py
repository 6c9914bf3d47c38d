"""What a data set promises of its values, and whether an observed site can take them."""

__all__ = ["DataSpec", "check_site"]

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

BROADCAST_DIMS = 8  # room for the event shape of a support and the batch shape of its bounds
FOR_GREY = "a likelihood for grey values (e.g. ContinuousBernoulli, Normal)"


@dataclass(frozen=True)
class DataSpec:
    """The promise of a data set about every batch that it yields.

    Arguments:
        name: what messages call it.
        size: the number of data.
        shape: of one datum.
        dtype: of a batch.
        levels: every value is k / (levels - 1) for an integer k; 2 means binary, None real-valued.
        binarization: "none", "given" (binary as found), "static" or "dynamic".

    Example:
        >>> DataSpec("digits", 1297, (8, 8), levels=17).support
        Interval(lower_bound=0.0, upper_bound=1.0)
    """

    name: str
    size: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    levels: int | None = None
    binarization: str = "none"

    @property
    def support(self) -> Constraint:
        """The smallest of torch's constraints that holds every value: boolean, unit_interval or real."""
        if self.levels is None:
            return constraints.real
        return constraints.boolean if self.levels == 2 else constraints.unit_interval


def check_site(spec: DataSpec, site_name: str, distribution_name: str, site_support: Constraint) -> None:
    """Refuse an observed site whose support does not hold every value that the data can take.

    Arguments:
        spec: of the data.
        site_name: the observed site's name in the model.
        distribution_name: the name of its distribution's class.
        site_support: the support of its distribution.
    Raises ValueError, which names the data set and the site and says what to do.

    Example:
        >>> check_site(DataSpec("digits", 1297, (8, 8), levels=17), "x", "Normal", constraints.real)
    """
    while isinstance(site_support, constraints.independent):
        site_support = site_support.base_constraint
    values = _values(spec.levels)  # (L,)
    constant = values.reshape(-1, *[1] * BROADCAST_DIMS)  # (L, 1, ..., 1)
    if bool(site_support.check(constant).all()):
        return
    article = "an" if distribution_name[:1] in "AEI" else "a"
    raise ValueError(
        f"data set {spec.name!r} has {_data_words(spec.levels)}, but site {site_name!r} is {article} "
        f"{distribution_name}, whose support is {_support_words(site_support)}: "
        f"{_advice(spec.levels, site_support)}"
    )


def _values(levels: int | None) -> Tensor:
    """Every value that the data can take; of real data, a few that only a real support holds."""
    if levels is None:
        return torch.tensor([-1e6, -0.5, 0.5, 1e6])
    return torch.arange(levels) / (levels - 1)


def _data_words(levels: int | None) -> str:
    if levels is None:
        return "real values"
    return "the values 0 and 1" if levels == 2 else f"{levels} grey levels in [0, 1]"


def _support_words(support: Constraint) -> str:
    if support is constraints.boolean:
        return "{0, 1}"
    if isinstance(support, constraints.integer_interval | constraints.interval):
        low = float(torch.as_tensor(support.lower_bound).min())
        high = float(torch.as_tensor(support.upper_bound).max())
        return f"the integers {low:g} to {high:g}" if support.is_discrete else f"[{low:g}, {high:g}]"
    return str(support)


def _advice(levels: int | None, support: Constraint) -> str:
    if levels is None:
        return "use a likelihood on the real line (e.g. Normal, Laplace), or save grey images as uint8"
    if levels == 2:
        return "use a likelihood for 0 and 1 (e.g. Bernoulli)"
    if support is constraints.boolean:
        return f"binarize the data (--binarize static or dynamic) or use {FOR_GREY}"
    if support.is_discrete:
        return f"the data are fractions k/{levels - 1} and not integers; use {FOR_GREY}"
    return f"use {FOR_GREY}"
