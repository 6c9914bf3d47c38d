"""An objective made of a gradient rule for one guide site at a time, whatever program stands around it.

    gradient = d f along paths + sum over sites of what the site's rule makes of f,     f = log p(x, z) - log q(z | x)

A rule sees f of the K draws as they are, of the same draws with its own site changed, and of relaxed values of
its site; latents that the guide draws given the changed site are drawn anew, and only terms that depend on the
site count (Rao-Blackwellization).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from pplvm.bounds import Bound, elbo
from pplvm.objectives.detached import require_still_supports
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import learning_latents, require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.path_gradients import require_replayable
from pplvm.objectives.score_function import leave_one_out_weights
from pplvm.objectives.site_draw import SiteDraw, kind_of
from pplvm.objectives.site_rule import SiteRule
from pplvm.particles.contract import Site, latents
from pplvm.particles.dependencies import dependents_of
from pplvm.particles.masks import is_masked, unmasked
from pplvm.particles.pair import Pair, Particles, cuda_devices, draw_from_pair, sum_sites
from pplvm.particles.reparameterized_sites import DetachedSites
from pplvm.particles.vectorization_check import raise_program_error, why_particles_interact

__all__ = ["OfRule", "Sitewise"]


class Sitewise(Objective):
    """A bound whose gradient follows a rule at each site that the rule is for, and the path of every other.

    A site of the guide can name another rule: `pyro.sample(..., infer={"grad": DisARM()})`. What such a rule
    learns (`rule.control`) must be registered in the program to be trained.

    Arguments:
        rule: for the sites that name none.
        bound: maps log-weights (K, B) to one value per datum (B,); other than `elbo` where the rule holds for it.
        num_particles: K, independent draws, at least 1.

    Raises:
        ObjectiveError: rule is none; on the first batch, a rule does not suit its site or the bound, or the guide is
            random beyond its sites.

    Example:
        >>> from pplvm.bounds import iwae
        >>> from pplvm.objectives.antithetic import DisARMRule
        >>> objective = Sitewise(DisARMRule(), iwae, num_particles=5)
    """

    rules_by_site = True
    leaves_paths = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if own := vars(cls).keys() & OF_RULES:
            raise ObjectiveError(
                f"{cls.__name__} defines {min(own)!r}, which the rule of an objective has: write a child of SiteRule "
                "with it, and give that to Sitewise"
            )

    def __init__(self, rule: SiteRule, bound: Bound = elbo, num_particles: int = 1) -> None:
        if not isinstance(rule, SiteRule):
            raise ObjectiveError(f"{type(self).__name__}: {rule!r} is no SiteRule: give one, such as DisARMRule()")
        self.least_particles = rule.least_particles
        super().__init__(num_particles)
        self.rule, self.bound, self.control = rule, bound, rule.control

    @property
    def target(self) -> Bound:
        return self.bound

    def refusal(self, site: Site) -> str | None:
        """Why a site of the guide cannot follow the rule, None if it can."""
        return self.rule.refusal(site)

    def takes(self, site: Site) -> bool:
        return self.rule_of(site) is not None

    def named(self, site: Site) -> Any:
        """What a site names as its rule, a rule or an objective that holds one; None if it names none."""
        return (site["infer"] or {}).get("grad")

    def rule_of(self, site: Site) -> Any:
        """The rule of a site; None for pathwise sites."""
        if (named := self.named(site)) is not None:
            return named.rule if isinstance(named, Sitewise) else named
        return self.rule if self.rule.claims(site) else None

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            drawn = pair.run_guide(1, args, kwargs)
            require_replayable(self, pair, drawn, args, kwargs)
        learning = learning_latents(pair, args, kwargs)
        for name, site in latents(drawn).items():  # of what learns nothing, an order say, no rule is asked for
            if (rule := self.rule_of(site)) is not None and (name in learning or self.named(site) is not None):
                self._require(rule, site)
        self._require_agreement(pair, learning, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            particles = draw_from_pair(pair, 1, args, kwargs)
            dependent = dependents_of(pair, particles, args, kwargs)
            for name, site in latents(particles.guide_trace).items():
                if (rule := self.rule_of(site)) is not None and name in learning:
                    rule.inspect(SiteDraw(name, self.bound, pair, particles, dependent[name], args, kwargs))
        return pair

    def _require_agreement(self, pair: Pair, learning: Mapping[str, Site], args: tuple, kwargs: dict) -> None:
        """Refuse a program in which the values that a rule tries at once, or data, interact."""
        rules = {name: rule for name, site in learning.items() if (rule := self.rule_of(site)) is not None}
        if self.num_particles == 1 and any(rule.many_at_once for rule in rules.values()):
            raise_program_error(why_particles_interact(pair, args, kwargs))
        credited = [name for name, rule in rules.items() if rule.credits_each_datum]
        require_independent_data(self, pair, args, kwargs, credited)
        if rules:
            require_still_supports(self, pair, args, kwargs, rules)

    def _require(self, rule: Any, site: Site) -> None:
        name, named = site["name"], self.named(site)
        if not isinstance(rule, SiteRule):
            raise ObjectiveError(f"guide site {name!r} names {rule!r} as infer['grad']: name a rule such as DisARM()")
        bound = named.bound if isinstance(named, Sitewise) else self.bound
        why = rule.refusal(site)
        if why is None and is_masked(site) and not (rule.takes_masks and unmasked(site["fn"]) is site["fn"]):
            why = "masked draws are not supported, use LeaveOneOut"
        if why is None and not rule.any_bound and self.bound is not elbo:
            why = f"the rule holds for the elbo only, not for {_called(self.bound)}"
        if why is None and bound not in (elbo, self.bound):
            why = f"it names the bound {_called(bound)}, but that of the objective is {_called(self.bound)}"
        if why is None and rule.least_particles > self.num_particles:
            why = f"it needs num_particles of at least {rule.least_particles}, got {self.num_particles}"
        if why is not None:
            raise ObjectiveError(f"{rule.name}: guide site {name!r} ({kind_of(site)}) cannot follow this rule: {why}")

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = self.draw(pair, *args, **kwargs)
        value = self.bound(drawn.log_weights.detach())
        if not torch.is_grad_enabled():
            return Estimate(value, value, drawn.scale)
        rules = {name: self.rule_of(site) for name, site in latents(drawn.guide_trace).items()}
        dependent = dependents_of(pair, drawn, args, kwargs)
        surrogate = self._along_paths(drawn, rules)
        for name, rule in rules.items():
            if rule is not None and drawn.log_q_sites[name].requires_grad:
                site = SiteDraw(name, self.bound, pair, drawn, dependent[name], args, kwargs)
                surrogate = surrogate + rule.surrogate(site)
        for name, log_q in drawn.log_q_score_sites.items():
            if rules.get(name) is None:  # a factor that belongs to the score of all draws
                surrogate = surrogate + self._scored(drawn.log_weights.detach(), log_q)
        return Estimate(value, surrogate, drawn.scale)

    def draw(self, pair: Pair, *args: Any, **kwargs: Any) -> Particles:
        """Draw K particles, detached at the sites of the rule."""
        cut = _CutPair(**vars(pair), ruled=lambda site: self.rule_of(site) is not None)
        return draw_from_pair(cut, self.num_particles, args, kwargs)

    def _along_paths(self, drawn: Particles, rules: Mapping[str, SiteRule | None]) -> Tensor:
        """The bound through model and reparameterized draws; in the elbo the score of a rule's site has mean zero."""
        if self.bound is not elbo:
            return self.bound(drawn.log_weights)
        scored = drawn.log_q_score_sites.keys() | {name for name, rule in rules.items() if rule is not None}
        free = {name: log_q for name, log_q in drawn.log_q_sites.items() if name not in scored}
        return elbo(drawn.log_p - (sum_sites(free) if free else 0.0))

    def _scored(self, log_weights: Tensor, log_q: Tensor) -> Tensor:
        """A score times its leave-one-out learning signal (for two particles or more): (B,)."""
        credit = self.bound(log_weights)
        return (
            (credit - self.bound(leave_one_out_weights(log_weights)) if len(log_weights) > 1 else credit) * log_q
        ).sum(0)


OF_RULES = {"surrogate", "refusal", "inspect", "claims", "any_bound", "many_at_once", "credits_each_datum"}
"""What children of `Sitewise` cannot define, since it would be ignored."""


class OfRule:
    """An attribute of an objective that is its rule's, such as a temperature to be annealed."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, objective: Any, owner: type | None = None) -> Any:
        return self if objective is None else getattr(objective.rule, self.name)

    def __set__(self, objective: Any, value: Any) -> None:
        setattr(objective.rule, self.name, value)


def _called(bound: Bound) -> str:
    return getattr(bound, "__name__", str(bound))


@dataclass(frozen=True)
class _CutPair(Pair):
    """A pair whose guide detaches the draws of the rule's sites."""

    ruled: Callable[[Site], bool] = bool

    def run_guide(self, num_particles: int, args: tuple, kwargs: dict) -> Trace:
        with DetachedSites(self.ruled):
            return super().run_guide(num_particles, args, kwargs)
