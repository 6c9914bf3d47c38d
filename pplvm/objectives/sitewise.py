"""Gradient rules for one guide site at a time, whatever program stands around it.

    gradient = d f along paths + sum over sites of what the site's rule makes of f,     f = log p(x, z) - log q(z | x)

A rule sees f of the K draws as they are, of the same draws with its own site changed, and of relaxed values of
its site; latents that the guide draws given the changed site are drawn anew, and only terms that depend on the
site count (Rao-Blackwellization).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor, nn

from pplvm.bounds import Bound, elbo
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import learning_latents, require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.score_function import without_each
from pplvm.objectives.site_draw import SiteDraw, kind_of
from pplvm.objectives.stopped_guide import require_replayable
from pplvm.particles.agreement import particles_disagree, refuse
from pplvm.particles.contract import Site, latents
from pplvm.particles.dependencies import dependents_of
from pplvm.particles.masks import is_masked
from pplvm.particles.pair import Pair, Particles, cuda_devices, gather, sum_sites
from pplvm.particles.paths import CutPaths, has_path

__all__ = ["Sitewise", "is_learning", "less_variance"]


class Sitewise(Objective):
    """An objective whose score sites follow a rule; children write `surrogate`.

    A site of the guide can name another rule: `pyro.sample(..., infer={"grad": DisARM()})`. What such a rule
    learns (`rule.control`) must be registered in the program to be trained.

    Arguments:
        num_particles: K, independent draws, at least 1.

    Raises:
        ObjectiveError: on the first batch, if a rule does not suit its site, or the guide is random beyond its
            sites.
    """

    rules_by_site = True
    leaves_paths = True

    any_bound = False
    """Whether the rule holds for other bounds than the elbo."""

    many_at_once = False
    """Whether the rule tries several values of its site in one run, even at one particle."""

    credits_each_datum = True
    """Whether the rule credits a datum's draw with that datum's terms alone."""

    bound: Bound = staticmethod(elbo)

    @property
    def target(self) -> Bound:
        return self.bound

    @abstractmethod
    def surrogate(self, site: SiteDraw) -> Tensor:
        """What is differentiated for one site, (B,): its gradient is that of the bound through the site."""

    def refusal(self, site: Site) -> str | None:
        """Why a site of the guide cannot follow this rule, None if it can."""
        return None

    def inspect(self, site: SiteDraw) -> None:
        """Raise ObjectiveError where the rule would be biased on this program; part of each check of it."""

    def claims(self, site: Site) -> bool:
        """Whether the rule takes a site that does not name one."""
        return not has_path(site["fn"])

    def takes(self, site: Site) -> bool:
        return self.rule_of(site) is not None

    def rule_of(self, site: Site) -> "Sitewise | None":
        """The rule that a site follows; None leaves it to its path."""
        named = (site["infer"] or {}).get("grad")
        return named if named is not None else self if self.claims(site) else None

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            drawn = pair.run_guide(1, args, kwargs)
            require_replayable(self, pair, drawn, args, kwargs)
        for name, site in latents(drawn).items():
            if (rule := self.rule_of(site)) is not None:
                self._require(rule, name, site)
        self._require_agreement(pair, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            particles = gather(pair, 1, args, kwargs)
            dependent = dependents_of(pair, particles, args, kwargs)
            for name, site in latents(particles.guide_trace).items():
                if (rule := self.rule_of(site)) is not None:
                    rule.inspect(SiteDraw(name, self.bound, pair, particles, dependent[name], args, kwargs))
        return pair

    def _require_agreement(self, pair: Pair, args: tuple, kwargs: dict) -> None:
        """Refuse a program that mixes values which a rule tries at once, or data."""
        learning = learning_latents(pair, args, kwargs)
        rules = {name: rule for name, site in learning.items() if (rule := self.rule_of(site)) is not None}
        if self.num_particles == 1 and any(rule.many_at_once for rule in rules.values()):
            refuse(particles_disagree(pair, args, kwargs))
        credited = [name for name, rule in rules.items() if rule.credits_each_datum]
        require_independent_data(self, pair, args, kwargs, credited)

    def _require(self, rule: Any, name: str, site: Site) -> None:
        if not isinstance(rule, Sitewise):
            raise ObjectiveError(f"guide site {name!r} names {rule!r} as infer['grad']: name a rule such as DisARM()")
        who = type(rule).__name__
        why = rule.refusal(site)
        if why is None and is_masked(site):
            why = "masked draws are not supported, use LeaveOneOut"
        if why is None and not rule.any_bound and self.bound is not elbo:
            why = f"the rule holds for the elbo only, not for {_called(self.bound)}"
        if why is None and rule.bound not in (elbo, self.bound):
            why = f"it names the bound {_called(rule.bound)}, but that of the objective is {_called(self.bound)}"
        if why is None and rule.least_particles > self.num_particles:
            why = f"it needs num_particles of at least {rule.least_particles}, got {self.num_particles}"
        if why is not None:
            raise ObjectiveError(f"{who}: guide site {name!r} ({kind_of(site)}) cannot follow this rule: {why}")

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
        """K particles, the paths of ruled sites cut."""
        cut = _CutPair(**vars(pair), ruled=lambda site: self.rule_of(site) is not None)
        return gather(cut, self.num_particles, args, kwargs)

    def _along_paths(self, drawn: Particles, rules: Mapping[str, "Sitewise | None"]) -> Tensor:
        """The bound through the model and the paths; in the elbo a ruled site's own log q has a mean of zero."""
        if self.bound is not elbo:
            return self.bound(drawn.log_weights)
        scored = drawn.log_q_score_sites.keys() | {name for name, rule in rules.items() if rule is not None}
        free = {name: log_q for name, log_q in drawn.log_q_sites.items() if name not in scored}
        return elbo(drawn.log_p - (sum_sites(free) if free else 0.0))

    def _scored(self, log_weights: Tensor, log_q: Tensor) -> Tensor:
        """A score times what its draws earned, leave-one-out from two particles up: (B,)."""
        credit = self.bound(log_weights)
        return ((credit - self.bound(without_each(log_weights)) if len(log_weights) > 1 else credit) * log_q).sum(0)


def _called(bound: Bound) -> str:
    return getattr(bound, "__name__", str(bound))


@dataclass(frozen=True)
class _CutPair(Pair):
    """A pair whose guide cuts the paths of ruled sites; its model only replays them, from whatever distribution."""

    ruled: Callable[[Site], bool] = bool

    def run_guide(self, num_particles: int, args: tuple, kwargs: dict) -> Trace:
        with CutPaths(self.ruled):
            return super().run_guide(num_particles, args, kwargs)


def is_learning(control: nn.Module) -> bool:
    """Whether a control variate is in training and has parameters to learn."""
    return control.training and any(p.requires_grad for p in control.parameters())


def less_variance(control: nn.Module, second_moment: Callable[[], Tensor], site: SiteDraw) -> Tensor | float:
    """A share of a surrogate, (), whose gradient descends a second moment in the control's parameters alone."""
    if not is_learning(control):
        return 0.0
    parameters = [p for p in control.parameters() if p.requires_grad]
    found = torch.autograd.grad(second_moment(), parameters, allow_unused=True)
    descent = [(p * g).sum() for p, g in zip(parameters, found, strict=True) if g is not None]
    return -torch.stack(descent).sum() / site.drawn.log_p.shape[1]
