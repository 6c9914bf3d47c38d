"""Objectives that wrap another objective and change what it optimises, not how it draws."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pplvm.objectives.objective import Objective
from pplvm.particles.contract import Site
from pplvm.particles.pair import Pair, Particles

__all__ = ["Wrapper", "unwrapped"]


class Wrapper(Objective):
    """An objective around another one; children implement `target` and `estimate`.

    Arguments:
        objective: the other, which may be a wrapper too.
    """

    def __init__(self, objective: Objective) -> None:
        self.least_particles, self.uses_guide = objective.least_particles, objective.uses_guide
        self.rules_by_site, self.leaves_paths = objective.rules_by_site, objective.leaves_paths
        super().__init__(objective.num_particles)
        self.inner, self.control = objective, objective.control

    @property
    def is_elbo(self) -> bool:
        return self.inner.is_elbo

    def takes(self, site: Site) -> bool:
        return self.inner.takes(site)

    def draw(self, pair: Pair, *args: Any, **kwargs: Any) -> Particles:
        return self.inner.draw(pair, *args, **kwargs)

    def reported(self) -> dict[str, Tensor]:
        return self.inner.reported()

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        return self.inner._pair_up(model, guide, args, kwargs)

    def _refuse_rules_by_site(self, pair: Pair, args: tuple, kwargs: dict) -> None:
        self.inner._refuse_rules_by_site(pair, args, kwargs)


def unwrapped(objective: Objective) -> Objective:
    """The innermost objective within all wrappers."""
    return unwrapped(objective.inner) if isinstance(objective, Wrapper) else objective
