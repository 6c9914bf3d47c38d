"""Wrappers that weigh the latents' terms in the surrogate and report the plain bound."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO

from pplvm.bounds import Bound
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.wrapper import Wrapper, unwrapped
from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.pair import Pair, cuda_devices
from pplvm.particles.tempering import Tempering

__all__ = ["TemperingWrapper", "latents_of", "name_of", "require_terms_of_their_own"]


class TemperingWrapper(Wrapper):
    """An objective whose pair is tempered; children implement `weighed`."""

    def __init__(self, objective: ELBO) -> None:
        name = type(self).__name__
        if not isinstance(objective, Objective):
            raise ObjectiveError(
                f"{name} weighs the terms that pplvm.objectives sum, but {type(objective).__name__} sums its own: wrap "
                "an objective such as Pathwise() or LeaveOneOut()"
            )
        self.bound: Bound = _bound_of(unwrapped(objective), name)
        super().__init__(objective)

    @abstractmethod
    def weighed(self, tempering: Tempering, pair: Pair) -> Tempering:
        """The weights of outer wrappers times its own, for one evaluation of a pair."""

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        tempering = self.weighed(pair.tempering or Tempering(), pair)
        found = self.inner.estimate(replace(pair, tempering=tempering), *args, **kwargs)
        if tempering.plain is None:
            raise ObjectiveError(
                f"{type(self).__name__} cannot weigh the terms of {type(self.inner).__name__}, which sums sites by "
                "itself: draw by pplvm.particles.pair.draw_from_pair, or wrap another objective"
            )
        return replace(found, value=self.bound(tempering.plain))


def latents_of(pair: Pair, args: tuple, kwargs: dict) -> dict[str, Site]:
    """The latents of a guide, from a run that leaves the random state as it was."""
    with torch.random.fork_rng(cuda_devices(args)):
        return latents(pair.run_guide(1, args, kwargs))


def require_terms_of_their_own(wrapper: Wrapper, pair: Pair, args: tuple, kwargs: dict) -> None:
    """Refuse a guide whose terms do not belong to one latent each.

    Raises:
        ObjectiveError: a site of the guide is auxiliary.
    """
    with torch.random.fork_rng(cuda_devices(args)):
        sites = sample_sites(pair.run_guide(1, args, kwargs))
    for name, site in sites.items():
        if site["infer"].get("is_auxiliary"):
            raise ObjectiveError(
                f"{type(wrapper).__name__} weighs the KL of one latent at a time, but guide site {name!r} is "
                "auxiliary and has none of its own: give one beta for all, or use Warmup"
            )


def name_of(bound: Bound) -> str:
    return getattr(bound, "__name__", str(bound))


def _bound_of(objective: Objective, wrapper: str) -> Bound:
    """The target of an objective, if it is a bound.

    Raises:
        ObjectiveError: it is not.
    """
    if isinstance(objective.target, Tabulated):
        raise ObjectiveError(
            f"{wrapper} weighs the KL terms of a bound, but {type(objective).__name__} estimates "
            f"{objective.target.name}, which has none: wrap an objective on the elbo, iwae or renyi"
        )
    return objective.target
