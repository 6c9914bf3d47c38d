"""Unnormalised terms: `pyro.factor`, improper priors, a model's point mass with a log-density.

They may be trained with, as Pyro defines it, but what holds one is no log p(x), no elbo and no bits per dimension.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions import ImproperUniform, Unit
from torch import Tensor

from pplvm.particles.masks import unmasked
from pplvm.particles.point_masses import has_log_density, is_point, point_in_words
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = ["factor_violations", "is_factor", "unnormalised"]

Site = Any
"""As in `pplvm.particles.contract`."""


def is_factor(site: Site) -> bool:
    """Whether a site is a `pyro.factor`."""
    return isinstance(unmasked(site["fn"]), Unit)


def factor_violations(guide_sites: dict[str, Site]) -> Iterator[str]:
    """What is wrong with factors of a guide, a sentence each.

    A factor of a guide is differentiated where it stands (`has_rsample=True`), or belongs to the score of a draw
    whose density it corrects (`has_rsample=False`), and then at the draw as it is, not along a path.
    """
    for name, site in guide_sites.items():
        if not is_factor(site):
            continue
        if "has_rsample" not in vars(unmasked(site["fn"])):
            yield (
                f"guide site {name!r} is a factor that does not say how it is differentiated: give pyro.factor "
                "has_rsample=True, or has_rsample=False where it corrects the density of draws without a path"
            )
        elif not site["fn"].has_rsample and (path := _path_into(site, guide_sites)) is not None:
            yield (
                f"guide site {name!r} is a factor with has_rsample=False, but reads site {path!r}, whose draws have a "
                "path: give it has_rsample=True"
            )


def unnormalised(model_sites: dict[str, Site], guide_sites: dict[str, Site]) -> str:
    """The first site with an unnormalised term and what to do about it, in a sentence; "" where there is none."""
    for role, sites in (("model", model_sites), ("guide", guide_sites)):
        for name, site in sites.items():
            if (kind := _kind(role, unmasked(site["fn"]))) is not None:
                cure = "give it as the log_density of a Delta if it is a Jacobian" if role == "guide" else CURE
                return f"{role} site {name!r} is {kind}, which nothing normalises: {cure}"
    return ""


CURE = "let a distribution give it, or train with it and evaluate without"


def _kind(role: str, fn: Any) -> str | None:
    if role == "model" and is_point(fn):
        return f"{point_in_words(fn)} with a log_density" if has_log_density(fn) else None
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    if isinstance(fn, Unit):
        return "a factor"
    if isinstance(fn, ImproperUniform):
        return "an ImproperUniform"
    return None


def _path_into(factor: Site, sites: dict[str, Site]) -> str | None:
    """The first reparameterized draw that a factor depends on; None without gradients."""
    value = factor["fn"].log_prob(factor["value"])
    drawn = {n: s["value"] for n, s in sites.items() if not s["is_observed"] and is_reparameterized(s["fn"])}
    moving = {name: z for name, z in drawn.items() if isinstance(z, Tensor) and z.requires_grad}
    if not value.requires_grad or not moving:
        return None
    slopes = torch.autograd.grad(value.sum(), list(moving.values()), retain_graph=True, allow_unused=True)
    return next((name for name, slope in zip(moving, slopes, strict=True) if slope is not None), None)
