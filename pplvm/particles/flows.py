"""Flows: distributions whose density at a draw comes from a cache, and at any other value from an inverse."""

from typing import Any

from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import TransformedDistribution

from pplvm.particles.contract import ProgramError, Site, latents
from pplvm.particles.paths import has_path

__all__ = ["log_density", "renewed", "with_scores"]


def log_density(site: Site) -> Tensor:
    """The log-density of a site's value, without the mask around it.

    Raises:
        ProgramError: the site is a flow without an inverse, and the value is not its last draw.
    """
    value, flow = site["value"], _is_flow(site["fn"])
    if flow and site["is_observed"]:
        value = value.view_as(value)  # the same batch again is found in the cache, with parameters before the last step
    try:
        return site["fn"].log_prob(value, *site["args"], **site["kwargs"])
    except (KeyError, NotImplementedError) as error:  # of transforms, each in its own words
        if not flow:
            raise
        raise ProgramError(
            f"site {site['name']!r} gives no density to draws that are not its own: use transforms with an "
            "inverse, as spline and affine flows have"
        ) from error


def renewed(drawn: Trace) -> Trace:
    """The same draws as other tensors, so that no transform answers from its cache, with the parameters of then."""
    found = drawn.copy()
    for name, site in latents(drawn).items():
        found.nodes[name] = dict(site, value=site["value"].view_as(site["value"]))
    return found


def with_scores(drawn: Trace) -> Trace:
    """The same draws, those without a path as other tensors: a flow would answer with what it computed without gradient
    as it drew them."""
    for site in latents(drawn).values():
        if not has_path(site["fn"]):
            site["value"] = site["value"].view_as(site["value"])
    return drawn


def _is_flow(fn: Any) -> bool:
    return isinstance(fn, TransformedDistribution) or (hasattr(fn, "base_dist") and _is_flow(fn.base_dist))
