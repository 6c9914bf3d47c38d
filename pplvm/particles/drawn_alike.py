"""Latents that model and guide draw alike from a distribution without parameters, such as an order or a time.

Its distribution says so by an attribute, `is_drawn_alike = True`. Its rate is zero and its posterior mean the same for
every datum by construction, so that figures of single sites leave it out.
"""

from typing import Any

__all__ = ["is_drawn_alike"]


def is_drawn_alike(fn: Any) -> bool:
    """Whether a distribution, within any `.to_event()` or mask, says that model and guide draw it alike.

    Example:
        >>> from torch.distributions import Normal
        >>> is_drawn_alike(Normal(0.0, 1.0))
        False
    """
    while not getattr(fn, "is_drawn_alike", False):
        if not hasattr(fn, "base_dist"):
            return False
        fn = fn.base_dist
    return True
