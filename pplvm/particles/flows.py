"""Normalizing flows, whose density at a draw comes from Pyro's cache, and elsewhere from the inverse."""

from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import TransformedDistribution

from pplvm.particles.contract import ProgramError, Site, latents
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = ["fresh_copies", "log_density", "pathless_copies"]


def log_density(site: Site) -> Tensor:
    """The log-density of a site's value, without the mask around it.

    Raises:
        ProgramError: the site is a flow without an inverse, and the value is not its last draw.
    """
    value, flow = site["value"], _is_flow(site["fn"])
    if flow and site["is_observed"]:
        value = value.view_as(value)  # the same batch again is found in the cache, with parameters before the last step
    try:
        log_prob = site["fn"].log_prob(value, *site["args"], **site["kwargs"])
        return log_prob.masked_fill(~site["fn"].support.check(value), -torch.inf) if _is_confined(site) else log_prob
    except (KeyError, NotImplementedError) as error:  # of transforms, each in its own words
        if not flow:
            raise
        raise ProgramError(
            f"site {site['name']!r} gives no density to draws that are not its own: use transforms with an "
            "inverse, as spline and affine flows have"
        ) from error


def fresh_copies(drawn: Trace) -> Trace:
    """Copies of the draws, so that no transform answers from its cache with old parameters."""
    found = drawn.copy()
    for name, site in latents(drawn).items():
        found.nodes[name] = dict(site, value=site["value"].view_as(site["value"]))
    return found


def pathless_copies(drawn: Trace) -> Trace:
    """Copies of draws that are not reparameterized, so that flows recompute their density with gradient."""
    for site in latents(drawn).values():
        if not is_reparameterized(site["fn"]):
            site["value"] = site["value"].view_as(site["value"])
    return drawn


def _is_confined(site: Site) -> bool:
    return site.get("is_confined", False)


def _is_flow(fn: Any) -> bool:
    return isinstance(fn, TransformedDistribution) or (hasattr(fn, "base_dist") and _is_flow(fn.base_dist))
