"""Point masses: distributions with all mass at one value, such as Delta.

`pyro.distributions.Delta` is one, and so is any class that says so by an attribute, `is_point_mass = True`. Its
`sample` (or `rsample`) gives the one value, and its `log_prob` is 0 there, on batch dimensions of its own; with an
attribute `log_density`, as Delta has it, it is that instead: the Jacobian of a draw that the point carries.
"""

from typing import Any

import torch
from pyro.distributions import Delta
from torch.distributions import Distribution

__all__ = ["has_log_density", "is_point", "point_in_words"]


def is_point(fn: Distribution) -> bool:
    """Whether a distribution is a point mass, within any `.to_event()`, mask, plate or transform.

    Example:
        >>> from torch.distributions import Normal
        >>> class Floor(Normal):
        ...     is_point_mass = True
        >>> is_point(Delta(torch.zeros(3)).to_event(1)), is_point(Floor(0.0, 1.0)), is_point(Normal(0.0, 1.0))
        (True, True, False)
    """
    return _is_declared(_declared_or_innermost(fn))


def point_in_words(fn: Distribution) -> str:
    """The name of a point mass in messages: "a Delta", or "a NearestCode, a point mass"."""
    found = _declared_or_innermost(fn)
    return "a Delta" if isinstance(found, Delta) else f"a {type(found).__name__}, a point mass"


def has_log_density(fn: Distribution) -> bool:
    """Whether a point mass has a log-density other than 0 at its value."""
    density = getattr(_declared_or_innermost(fn), "log_density", 0.0)
    return bool((torch.as_tensor(density) != 0).any())


def _declared_or_innermost(fn: Any) -> Any:
    while not _is_declared(fn) and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def _is_declared(fn: Any) -> bool:
    return isinstance(fn, Delta) or bool(getattr(fn, "is_point_mass", False))
