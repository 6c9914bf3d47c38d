"""Supports of distributions: whether two are the same, and how one is told."""

from typing import Any

import torch
from torch.distributions import constraints

__all__ = ["same_support", "support_in_words"]


def same_support(a: constraints.Constraint, b: constraints.Constraint) -> bool:
    """Whether two supports have the same kind and the same bounds, open or closed ends aside."""
    return _signature(a) == _signature(b)


def support_in_words(support: constraints.Constraint) -> str:
    """The support of single coordinates, as torch names it, bounds that differ by coordinate from the least up.

    Example:
        >>> support_in_words(torch.distributions.Uniform(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0])).support)
        'Interval(lower_bound=0, upper_bound=1 to 4)'
    """
    support = _of_coordinates(support)
    ends = {end: getattr(support, end, None) for end in ("lower_bound", "upper_bound")}
    if not any(isinstance(value, torch.Tensor) and value.numel() for value in ends.values()):
        return str(support)
    told = [f"{end}={_bound_in_words(value)}" for end, value in ends.items() if value is not None]
    return f"{type(support).__name__.removeprefix('_')}({', '.join(told)})"


def _bound_in_words(value: Any) -> str:
    value = torch.as_tensor(value).detach()
    return " to ".join(dict.fromkeys(f"{float(end):g}" for end in (value.min(), value.max())))


def _signature(support: constraints.Constraint) -> tuple[Any, ...]:
    """What tells two supports apart, open or closed ends aside."""
    support = _of_coordinates(support)
    kind = type(support).__name__.removesuffix("Eq").replace("HalfOpen", "")
    ends = (getattr(support, end, None) for end in ("lower_bound", "upper_bound"))
    return kind, *(end if end is None else torch.as_tensor(end).unique().tolist() for end in ends)


def _of_coordinates(support: Any) -> Any:
    while hasattr(support, "base_constraint"):  # of .to_event(), of mixtures
        support = support.base_constraint
    return support
