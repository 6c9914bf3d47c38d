"""Detached draws: the gradient flows through densities alone, even for reparameterized sites."""

from collections.abc import Collection
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.factors import is_factor
from pplvm.particles.masks import is_masked
from pplvm.particles.pair import Pair, Particles, cuda_devices, draw_from_pair
from pplvm.particles.point_masses import is_point, point_in_words
from pplvm.particles.supports import is_moving, support_in_words

__all__ = ["Detached", "draw_detached", "require_densities", "require_still_supports"]


class Detached(Messenger):
    """A Pyro messenger that detaches every draw; it stands outside of the trace, since outer handlers run first."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


def draw_detached(pair: Pair, num_particles: int, args: tuple, kwargs: dict) -> Particles:
    """Draw K particles whose log-densities depend on parameters, but not through the draws."""
    with Detached():
        return draw_from_pair(pair, num_particles, args, kwargs)


def require_densities(objective: Objective, pair: Pair, args: tuple, kwargs: dict, instead: str) -> None:
    """Refuse a guide whose draws depend on parameters in a way that log q does not tell.

    Arguments:
        instead: the objectives to use, in words, where the site has a path.

    Raises:
        ObjectiveError: a site of the guide is a point mass, a factor, or masked, or its support moves.
    """
    with torch.random.fork_rng(cuda_devices(args)):
        sites = sample_sites(pair.run_guide(1, args, kwargs))
    for name, site in sites.items():
        if (why := _why_no_density(site)) is not None:
            raise ObjectiveError(
                f"{type(objective).__name__} needs the density of every draw, but guide site {name!r} is {why}: "
                f"use {instead if pair.has_path(site) else 'LeaveOneOut'}"
            )
    require_still_supports(objective, pair, args, kwargs)


def require_still_supports(
    objective: Objective, pair: Pair, args: tuple, kwargs: dict, names: Collection[str] | None = None
) -> None:
    """Refuse a guide whose supports move with its parameters, whose score has no mean of zero.

    Arguments:
        names: of the latents whose score counts; all unless given.

    Raises:
        ObjectiveError: a site is drawn from Uniform(0, a learned bound), say.
    """
    with torch.random.fork_rng(cuda_devices(args)), torch.enable_grad(), Detached():
        sites = latents(pair.run_guide(1, args, kwargs))
    for name, site in sites.items():
        if (names is None or name in names) and not is_point(site["fn"]) and is_moving(site["fn"].support):
            raise ObjectiveError(
                f"{type(objective).__name__} takes the score of every draw to have mean zero, but the support of guide "
                f"site {name!r}, {support_in_words(site['fn'].support)}, moves with the guide's parameters, so that "
                "its gradient would be silently biased: let its bounds be fixed, or use Pathwise on a site with a path"
            )


def _why_no_density(site: Site) -> str | None:
    if is_point(site["fn"]):
        return f"{point_in_words(site['fn'])}, which has none"
    if is_factor(site):
        return "a factor, which is no draw"
    return "masked, which hides it" if is_masked(site) else None
