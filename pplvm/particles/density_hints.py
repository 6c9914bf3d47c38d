"""Hints for sites that give their value no density."""

from typing import Any

from torch import Tensor
from torch.distributions import RelaxedOneHotCategorical

__all__ = ["density_hint", "underflow_message"]

Site = Any
"""As in `pplvm.particles.contract`."""

UNDERFLOW = "its relaxed draws underflow to zero: raise the temperature, or compute in float64"


def density_hint(site: Site, error: Exception) -> str:
    """A hint where a site's density raises an error.

    Arguments:
        error: a KeyError of Pyro's flows without an inverse, a NotImplementedError of torch's, or another.
    """
    if isinstance(error, KeyError | NotImplementedError):
        return "use transforms with an inverse"
    if _is_relaxed(site["fn"]) and not site["is_observed"]:
        return UNDERFLOW
    return "make the two agree in shape and support"


def underflow_message(site: Site, log_prob: Tensor) -> str:
    """What is wrong with a relaxed one-hot draw without a finite density; "" where nothing is."""
    if site["is_observed"] or not _is_relaxed(site["fn"]) or bool(log_prob.isfinite().all()):
        return ""
    return f"gives its value no finite density: {UNDERFLOW}"


def _is_relaxed(fn: Any) -> bool:
    return isinstance(fn, RelaxedOneHotCategorical) or (hasattr(fn, "base_dist") and _is_relaxed(fn.base_dist))
