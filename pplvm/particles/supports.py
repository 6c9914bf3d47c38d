"""Supports of distributions: whether one contains another, and descriptions."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import constraints as pyros
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import constraints

from pplvm.particles.point_masses import is_point

__all__ = ["confine", "contains", "innermost", "is_moving", "narrower", "same_support", "support_in_words"]


def contains(outer: constraints.Constraint, inner: constraints.Constraint) -> bool:
    """Whether a support contains another with the same base measure; open and closed ends count as equal.

    Intervals lie within intervals, and ranges of integers within ranges of integers. A range of integers lies within
    no interval, where a density is no probability, and what is no range (a simplex, a sphere) within itself alone.

    Example:
        >>> contains(constraints.real, constraints.positive), contains(constraints.positive, constraints.real)
        (True, False)
        >>> contains(constraints.integer_interval(0, 4), constraints.boolean)
        True
    """
    if (parts := _parts(inner)) is not None:
        others = _parts(outer)
        if others is None or len(others) != len(parts):
            return all(contains(outer, part) for part in parts)
        return all(contains(other, part) for other, part in zip(others, parts, strict=True))
    if (parts := _parts(outer)) is not None:
        return all(contains(part, inner) for part in parts)
    a, b = _range(outer), _range(inner)
    if a is None or b is None:
        return same_support(outer, inner)
    return a[0] == b[0] and _nowhere_below(b[1], a[1]) and _nowhere_below(a[2], b[2])


def narrower(in_model: Mapping[str, Any], in_guide: Mapping[str, Any]) -> dict[str, str]:
    """The latents whose guide covers only part of the model's support, each with a sentence.

    What takes its draws from the model, or seeks log p(x) by draws of the guide, misses the rest of that support.

    Arguments:
        in_model, in_guide: latents by name.
    """
    found = {}
    for name in in_model.keys() & in_guide.keys():
        p, q = in_model[name]["fn"], in_guide[name]["fn"]
        if not is_point(q) and not contains(q.support, p.support):
            found[name] = (
                f"guide site {name!r} is drawn on {support_in_words(q.support)}, a part of the model's "
                f"{support_in_words(p.support)}"
            )
    return found


def confine(model_trace: Trace, guide_trace: Trace) -> None:
    """Mark latents whose guide may come to leave the model's support, so that they have no density outside of it.

    The guide's bounds are tensors, and a check sees one batch and the parameters of one step; torch's Exponential, say,
    has a density of values below zero.
    """
    for name, q in guide_trace.nodes.items():
        p: Any = model_trace.nodes.get(name)
        if p is None or p["type"] != "sample" or p["is_observed"] or site_is_subsample(p) or is_point(q["fn"]):
            continue
        in_model, in_guide = _range(p["fn"].support), _range(q["fn"].support)
        if in_model is None or in_guide is None or in_model[0]:  # of integers
            continue
        ends = zip(in_model[1:], in_guide[1:], strict=True)
        p["is_confined"] = any(isinstance(b, Tensor) and (isinstance(a, Tensor) or math.isfinite(a)) for a, b in ends)


def is_moving(support: constraints.Constraint) -> bool:
    """Whether the bounds of a support depend on trainable parameters.

    A density whose support moves has a score of another mean than zero: what crosses the edge is in no score.

    Example:
        >>> high = torch.ones((), requires_grad=True)
        >>> is_moving(torch.distributions.Uniform(0.0, high).support), is_moving(constraints.unit_interval)
        (True, False)
    """
    if (parts := _parts(support)) is not None:
        return any(map(is_moving, parts))
    ends = (getattr(_of_coordinates(support), end, None) for end in ("lower_bound", "upper_bound"))
    return any(isinstance(end, Tensor) and end.requires_grad for end in ends)


def same_support(a: constraints.Constraint, b: constraints.Constraint) -> bool:
    """Whether two supports have the same kind and bounds; open and closed ends count as equal."""
    return _signature(a) == _signature(b)


def support_in_words(support: constraints.Constraint) -> str:
    """Describe the support of single coordinates by torch's name, with bounds from the lowest up.

    Example:
        >>> support_in_words(torch.distributions.Uniform(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0])).support)
        'Interval(lower_bound=0, upper_bound=1 to 4)'
    """
    support = _of_coordinates(support)
    ends = {end: getattr(support, end, None) for end in ("lower_bound", "upper_bound")}
    if not any(isinstance(value, Tensor) and value.numel() for value in ends.values()):
        return str(support)
    told = [f"{end}={_bound_in_words(value)}" for end, value in ends.items() if value is not None]
    return f"{type(support).__name__.removeprefix('_')}({', '.join(told)})"


def _bound_in_words(value: Any) -> str:
    value = torch.as_tensor(value).detach()
    return " to ".join(dict.fromkeys(f"{float(end):g}" for end in (value.min(), value.max())))


def _signature(support: constraints.Constraint) -> tuple[Any, ...]:
    """What distinguishes supports; open and closed ends count as equal."""
    support = _of_coordinates(support)
    kind = type(support).__name__.removesuffix("Eq").replace("HalfOpen", "")
    ends = (getattr(support, end, None) for end in ("lower_bound", "upper_bound", "levels"))
    return kind, *(end.unique().tolist() if isinstance(end, Tensor) else None if end is None else [end] for end in ends)


def _range(support: constraints.Constraint) -> tuple[bool, Any, Any] | None:
    """The bounds of a numeric support, by coordinate if need be, and whether it is of integers; None for others."""
    support = _of_coordinates(support)
    if isinstance(support, type(constraints.boolean)):
        return True, 0, 1
    if isinstance(support, type(constraints.real) | type(pyros.integer)):
        return support.is_discrete, -math.inf, math.inf
    ends = [getattr(support, end, None) for end in ("lower_bound", "upper_bound")]
    if support.event_dim or ends == [None, None]:
        return None
    low, high = (else_ if end is None else end for end, else_ in zip(ends, (-math.inf, math.inf), strict=True))
    return support.is_discrete, low, high


def _nowhere_below(a: Any, b: Any) -> bool:
    """Whether a bound is at least another in every coordinate."""
    a, b = torch.as_tensor(a).detach(), torch.as_tensor(b).detach()
    try:
        return bool((a >= b).all())
    except RuntimeError:
        return bool(a.min() >= b.max())


def _parts(support: constraints.Constraint) -> list[constraints.Constraint] | None:
    """The parts of a stacked or concatenated support."""
    support = _of_coordinates(support)
    return list(support.cseq) if isinstance(support, constraints.stack | constraints.cat) else None


def innermost(fn: Any) -> Any:
    """The distribution within all wrappers and transforms."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def _of_coordinates(support: Any) -> Any:
    while hasattr(support, "base_constraint"):  # of .to_event(), of mixtures
        support = support.base_constraint
    return support
