"""The specification of a data set's values, and whether an observed site can hold them."""

__all__ = ["DataSpec", "check_site", "first_outside", "refuse_condition", "refuse_row"]

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

BROADCAST_DIMS = 8  # room for the event shape of a support and the batch shape of its bounds
FOR_GREY = "a likelihood for grey values (e.g. --set likelihood=discretized-logistic, Normal)"


@dataclass(frozen=True)
class DataSpec:
    """The specification of every batch of a data set: shape, levels, range.

    Arguments:
        name: what messages call it.
        size: the number of data.
        shape: of one datum.
        dtype: of a batch.
        levels: every value is k / (levels - 1) for an integer k; 2 means binary, None real-valued.
        binarization: "none", "given" (binary as found), "static" or "dynamic".
        num_classes: of the labels of all splits, numbered from 0; None if the data have none.
        conditions: the names of what a batch holds beside x, as "labels".

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
    num_classes: int | None = None
    conditions: tuple[str, ...] = ()

    @property
    def support(self) -> Constraint:
        """The smallest torch constraint that holds every value: boolean, unit_interval or real."""
        if self.levels is None:
            return constraints.real
        return constraints.boolean if self.levels == 2 else constraints.unit_interval


def check_site(
    spec: DataSpec,
    site_name: str,
    distribution_name: str,
    site_support: Constraint,
    device: torch.device | None = None,
) -> None:
    """Refuse an observed site whose support does not hold every level of the data; real data have no levels.

    Arguments:
        spec: of the data.
        site_name: the observed site's name in the model.
        distribution_name: the name of its distribution's class.
        site_support: the support of its distribution.
        device: of the support's bounds.
    Raises ValueError, which names the data set and the site and says what to do.

    Example:
        >>> check_site(DataSpec("digits", 1297, (8, 8), levels=17), "x", "Normal", constraints.real)
    """
    if spec.levels is None:
        return
    support = _of_coordinates(site_support)
    levels = torch.arange(spec.levels, device=device) / (spec.levels - 1)  # (L,)
    if bool(support.check(levels.reshape(-1, *[1] * BROADCAST_DIMS)).all()):
        return
    words = "the values 0 and 1," if spec.levels == 2 else f"{spec.levels} grey levels in [0, 1],"
    raise ValueError(_refusal(spec, site_name, distribution_name, support, words, _advice(spec.levels, support)))


def first_outside(site_support: Constraint, rows: Tensor) -> int | None:
    """The number of the first datum outside a support; None if all are inside.

    Arguments:
        site_support: of a site that reads a batch of B.
        rows: (n, B, ...) of which each (B, ...) is as the site reads it.
    """
    inside = _of_coordinates(site_support).check(rows)
    outside = inside.logical_not()[:, :, None].flatten(2).any(-1).flatten()  # (n B,)
    return int(outside.nonzero()[0]) if bool(outside.any()) else None


def refuse_row(
    spec: DataSpec, site_name: str, distribution_name: str, site_support: Constraint, row: int, values: Tensor
) -> None:
    """Refuse an observed site whose support does not hold one datum.

    Arguments:
        row: its number in the split.
        values: of the datum, as the site reads it, with as many dimensions left of it as the support's bounds need.
    Raises ValueError, always.
    """
    support = _of_coordinates(site_support)
    inside = support.check(values)
    value = float(values[~inside][0]) if inside.shape == values.shape else None
    told = f"real values, {'a vector' if value is None else f'{value:g}'} in row {row} of its split,"
    raise ValueError(_refusal(spec, site_name, distribution_name, support, told, _advice_for(value, support)))


def refuse_condition(
    spec: DataSpec,
    which: int,
    site_name: str,
    distribution_name: str,
    site_support: Constraint,
    row: int,
    values: Tensor,
) -> None:
    """Refuse an observed site whose support does not hold one row of a condition.

    Arguments:
        which: of the conditions of the data it is, from 0.
        row, values: as of `refuse_row`.
    Raises ValueError, always.
    """
    support = _of_coordinates(site_support)
    inside = support.check(values)
    value = float(values[~inside][0]) if inside.shape == values.shape else None
    word = spec.conditions[which] if which < len(spec.conditions) else f"condition {which + 1}"
    advice = "use a likelihood of such values, or map them to the support"
    if word == "labels":
        known = "observe obs=y.clamp(min=0) within poutine.mask(mask=y >= 0), as -1 is a label that is not known"
        advice = known if value == -1 else f"give the site {spec.num_classes} classes (num_classes, of all splits)"
    told = f"{'a vector' if value is None else f'{value:g}'} in row {row} of its {word},"
    raise ValueError(_refusal(spec, site_name, distribution_name, support, told, advice))


def _refusal(spec: DataSpec, site: str, distribution: str, support: Constraint, has: str, advice: str) -> str:
    article = "an" if distribution[:1] in "AEI" else "a"
    return (
        f"data set {spec.name!r} has {has} but site {site!r} is {article} {distribution}, whose support is "
        f"{_support_words(support)}: {advice}"
    )


def _of_coordinates(support: Constraint) -> Constraint:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _support_words(support: Constraint) -> str:
    if support is constraints.boolean:
        return "{0, 1}"
    if isinstance(support, constraints.integer_interval | constraints.interval):
        low = float(torch.as_tensor(support.lower_bound).detach().min())
        high = float(torch.as_tensor(support.upper_bound).detach().max())
        return f"the integers {low:g} to {high:g}" if support.is_discrete else f"[{low:g}, {high:g}]"
    return str(support)


def _advice_for(value: float | None, support: Constraint) -> str:
    """What to do about a real value outside a support; the value is None for a vector."""
    if value is not None and value >= 0 and value.is_integer() and support.is_discrete:
        likelihood = "a likelihood of such integers (e.g. Poisson, NegativeBinomial, Categorical of more classes)"
    else:
        likelihood = "a likelihood on the real line (e.g. Normal, Laplace)"
    save = "" if value is None or value.is_integer() else "save them as whole numbers and "
    return f"use {likelihood}, or map the data to the support, or, if they are grey images, {save}give their --levels"


def _advice(levels: int, support: Constraint) -> str:
    if levels == 2:
        return "use a likelihood for 0 and 1 (e.g. Bernoulli)"
    if hasattr(support, "levels"):  # of a likelihood of other grey levels
        return f"give the likelihood the levels of the data, levels={levels}"
    if support is constraints.boolean:
        return f"binarize the data (--binarize static or dynamic) or use {FOR_GREY}"
    if support.is_discrete:
        return (
            f"the data are fractions k/{levels - 1} and not integers; use {FOR_GREY}, or, if they are counts or "
            "classes, read them with --values integer"
        )
    return f"use {FOR_GREY}"
