"""Gradient rules for one guide site at a time, whatever program stands around it.

    gradient = d f along paths + sum over sites of what the site's rule makes of f,     f = log p(x, z) - log q(z | x)

A rule sees f of the K draws as they are, of the same draws with its own site changed, and of relaxed values of
its site; latents that the guide draws given the changed site are drawn anew, and only terms that depend on the
site count (Rao-Blackwellization).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pplvm.bounds import Bound, elbo
from pplvm.contract import Site, latents, sample_sites
from pplvm.dependencies import Dependents, dependents
from pplvm.enumeration import coordinates
from pplvm.objectives.discrete import Discrete, softened
from pplvm.objectives.objective import Estimate, Objective, ObjectiveError
from pplvm.objectives.stopped_guide import require_replayable
from pplvm.particles import Pair, Particles, cuda_devices, gather, sum_sites

__all__ = ["SiteDraw", "Sitewise", "kind_of", "less_variance"]


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

    any_bound = False
    """Whether the rule holds for other bounds than the elbo."""

    bound: Bound = staticmethod(elbo)

    _known: tuple[Pair, dict[str, Dependents]] | None = None

    @property
    def target(self) -> Bound:
        return self.bound

    @abstractmethod
    def surrogate(self, site: "SiteDraw") -> Tensor:
        """What is differentiated for one site, (B,): its gradient is that of the bound through the site."""

    def refusal(self, site: Site) -> str | None:
        """Why a site of the guide cannot follow this rule, None if it can."""
        return None

    def claims(self, site: Site) -> bool:
        """Whether the rule takes a site that does not name one."""
        return not site["fn"].has_rsample

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
        self._dependents_in(pair, args, kwargs)
        return pair

    def _dependents_in(self, pair: Pair, args: tuple, kwargs: dict) -> dict[str, Dependents]:
        """Found once a program, on its first batch."""
        if self._known is None or self._known[0] != pair:
            self._known = (pair, dependents(pair, args, kwargs))
        return self._known[1]

    def _require(self, rule: Any, name: str, site: Site) -> None:
        if not isinstance(rule, Sitewise):
            raise ObjectiveError(f"guide site {name!r} names {rule!r} as infer['grad']: name a rule such as DisARM()")
        who = type(rule).__name__
        why = rule.refusal(site)
        if why is None and (site["mask"] is not None or isinstance(site["fn"], MaskedDistribution)):
            why = "masked draws are not supported"
        if why is None and not rule.any_bound and self.bound is not elbo:
            why = f"the rule holds for the elbo only, not for {getattr(self.bound, '__name__', self.bound)}"
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
        dependent = self._dependents_in(pair, args, kwargs)
        surrogate = self._along_paths(drawn, rules)
        for name, rule in rules.items():
            if rule is not None and drawn.log_q_sites[name].requires_grad:
                site = SiteDraw(name, self.bound, pair, drawn, dependent[name], args, kwargs)
                surrogate = surrogate + rule.surrogate(site)
        return Estimate(value, surrogate, drawn.scale)

    def draw(self, pair: Pair, *args: Any, **kwargs: Any) -> Particles:
        """K particles, the paths of ruled sites cut."""
        with _CutPaths(lambda site: self.rule_of(site) is not None):
            return gather(pair, self.num_particles, args, kwargs)

    def _along_paths(self, drawn: Particles, rules: Mapping[str, "Sitewise | None"]) -> Tensor:
        """The bound through the model and the paths; in the elbo a ruled site's own log q has a mean of zero."""
        if self.bound is not elbo:
            return self.bound(drawn.log_weights)
        free = {name: log_q for name, log_q in drawn.log_q_sites.items() if rules[name] is None}
        return elbo(drawn.log_p - (sum_sites(free) if free else 0.0))


class SiteDraw:
    """K draws of one guide site, and f of them and of their neighbours.

    Values have all their dimensions, (K, nested plates..., B, event...); f has shape (K, B).
    """

    def __init__(
        self, name: str, bound: Bound, pair: Pair, drawn: Particles, dependent: Dependents, args: tuple, kwargs: dict
    ) -> None:
        self.name, self.bound, self.drawn, self.dependent = name, bound, drawn, dependent
        self._pair, self._args, self._kwargs = pair, args, kwargs
        self.site = drawn.guide_trace.nodes[name]
        self.fn = self.site["fn"]
        self.num_particles = len(drawn.log_p)
        self.value = self._padded(self.site["value"].detach(), self.fn.event_dim)

    @property
    def log_q(self) -> Tensor:
        """Of the draws, (K, B), differentiable in the guide's parameters."""
        return self.drawn.plain.log_q_sites[self.name]

    @property
    def f(self) -> Tensor:
        """The terms of the log-weights that depend on the site, of the draws, (K, B)."""
        return self._signal(self.drawn).detach()

    @torch.no_grad()
    def f_at(self, values: Tensor) -> Tensor:
        """f with the site at R x K other values (R, K, ...): (R, K, B)."""
        return self._signal(self._changed(values)).reshape(*values.shape[:2], -1)

    @torch.no_grad()
    def log_weights_at(self, values: Tensor) -> Tensor:
        """All of the log-weights with the site at R x K other values (R, K, ...): (R, K, B)."""
        return self._changed(values).log_weights.reshape(*values.shape[:2], -1)

    def f_relaxed(self, values: Tensor, later: Callable[[Discrete, Tensor], Tensor]) -> Tensor:
        """f at soft values (K, ...) of the site, differentiable in them: (K, B).

        Arguments:
            values: of the site.
            later: what a discrete latent that is drawn given the site becomes, from its family and its draw.
        """
        if self._unreached_softly:
            raise ObjectiveError(
                f"guide site {self._unreached_softly[0]!r} is a Categorical, drawn or read given {self.name!r} at soft "
                "values, of which an index has none: draw a OneHotCategorical"
            )
        soften = _Soften(self.dependent.redrawn, later)
        return self._signal(self._changed(values.unsqueeze(0), soften))

    def uniform(self, like: Tensor) -> Tensor:
        """Noise in (0, 1) of the shape of a tensor."""
        return torch.rand_like(like)

    def per_datum(self, terms: Tensor, event_dim: int | None = None) -> Tensor:
        """Terms of single coordinates (..., K, nested..., B, event...), summed over all but K and B: (..., K, B).

        Arguments:
            event_dim: of the terms, where it is not the site's.
        """
        event, nested = self.fn.event_dim if event_dim is None else event_dim, self._pair.nesting - 1
        total = terms.sum(tuple(range(-event, 0))) if event else terms
        return total.sum(tuple(range(-1 - nested, -1))) if nested else total

    def spread(self, per_particle: Tensor, event_dim: int | None = None) -> Tensor:
        """The reverse: (..., K, B) with dimensions of size one for the coordinates."""
        event, nested = self.fn.event_dim if event_dim is None else event_dim, self._pair.nesting - 1
        *left, B = per_particle.shape
        return per_particle.reshape(*left, *[1] * nested, B, *[1] * event)

    def with_each(self, values: Tensor, own: int = 0) -> Tensor:
        """The draws with one coordinate replaced at a time, of every datum at once: (S, K, ...) to (n S, K, ...).

        Arguments:
            own: dimensions at the right that belong to one coordinate.
        """
        n, chosen = self._each(own)
        changed = torch.where(chosen.unsqueeze(1), values.unsqueeze(0), self.value)  # (n, S, K, ...)
        return changed.expand(n, *values.shape[:1], *self.value.shape).flatten(0, 1)

    def collected(self, found: Tensor, own: int = 0) -> Tensor:
        """What was computed with each coordinate changed, (n S, K, B), at that coordinate's place: (S, K, ...)."""
        n, chosen = self._each(own)
        placed = chosen.reshape(n, *chosen.shape[1 : chosen.dim() - own]).unsqueeze(1)
        each = self.spread(found.reshape(n, -1, *found.shape[1:]), self.fn.event_dim - own)  # (n, S, K, 1..., B, 1...)
        return (placed * each).sum(0)

    def _each(self, own: int) -> tuple[int, Tensor]:
        """How many coordinates, and a mask of each: (n, 1, nested..., 1, event..., 1...)."""
        places = list(self.value.shape[: self.value.dim() - own])
        places[0] = places[self._pair.nesting] = 1
        n = torch.Size(places).numel()
        eye = torch.eye(n, dtype=torch.bool, device=self.value.device)
        return n, eye.reshape(n, *places, *[1] * own)

    @property
    def _unreached_softly(self) -> list[str]:
        sites = latents(self.drawn.guide_trace)
        return [n for n in (self.name, *self.dependent.redrawn) if kind_of(sites[n]) == "Categorical"]

    def _signal(self, drawn: Particles) -> Tensor:
        log_p = sum_sites({n: t for n, t in drawn.log_p_sites.items() if n in self.dependent.model})
        return log_p - sum_sites({n: t for n, t in drawn.log_q_sites.items() if n in self.dependent.guide})

    def _changed(self, values: Tensor, soften: "_Soften | None" = None) -> Particles:
        """The program with the site at values (R, K, ...) and what depends on it drawn anew."""
        R, K = values.shape[:2]
        fixed = Trace()
        for name, site in latents(self.drawn.guide_trace).items():
            if name == self.name:
                value = values.flatten(0, 1)
            elif name in self.dependent.redrawn:
                continue
            else:
                kept = self._padded(site["value"].detach(), site["fn"].event_dim)
                value = kept.expand(R, *kept.shape).flatten(0, 1)
            fixed.nodes[name] = dict(site, value=value if R * K > 1 else value[0])
        guide = poutine.replay(self._pair.guide, trace=fixed)
        pair = replace(self._pair, guide=guide)
        if soften is not None:
            soften.draws = {n: self._padded(v["value"], v["fn"].event_dim) for n, v in self._later_draws().items()}
            pair = _SoftPair(**vars(pair) | {"guide": soften(guide), "soft": frozenset({self.name, *soften.draws})})
        return gather(pair, R * K, self._args, self._kwargs)

    def _later_draws(self) -> dict[str, Site]:
        sites = latents(self.drawn.guide_trace)
        return {n: sites[n] for n in self.dependent.redrawn if not sites[n]["fn"].has_rsample}

    def _padded(self, value: Tensor, event_dim: int) -> Tensor:
        """With all its plate dimensions, (K, nested..., B, event...)."""
        full = 1 + self._pair.nesting + event_dim
        return value[(None,) * (full - value.dim())]


@dataclass(frozen=True)
class _SoftPair(Pair):
    """A pair that reads the densities of some sites between their states."""

    soft: frozenset[str] = frozenset()

    def run(self, program: Any, num_particles: int, args: tuple, kwargs: dict) -> Trace:
        trace = super().run(program, num_particles, args, kwargs)
        for name, site in sample_sites(trace).items():
            if name in self.soft:
                site["fn"] = softened(site["fn"])
        return trace


class _Soften(Messenger):
    """Give discrete latents soft values in place of draws."""

    def __init__(self, names: frozenset[str], later: Callable[[Discrete, Tensor], Tensor]) -> None:
        super().__init__()
        self.names, self.later, self.draws = names, later, {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.draws and not msg["done"] and not msg["is_observed"]:
            draw = self.draws[msg["name"]]
            msg["value"], msg["done"] = self.later(Discrete(msg["fn"]), draw[0] if len(draw) == 1 else draw), True


class _CutPaths(Messenger):
    """Cut the path of draws that follow a rule."""

    def __init__(self, ruled: Callable[[Site], bool]) -> None:
        super().__init__()
        self.ruled = ruled

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor) and self.ruled(msg):
            msg["value"] = msg["value"].detach()


def kind_of(site: Site) -> str:
    """The name of a site's distribution."""
    return type(coordinates(site["fn"])).__name__


def less_variance(control: nn.Module, second_moment: Callable[[], Tensor], site: SiteDraw) -> Tensor | float:
    """A share of a surrogate, (), whose gradient descends a second moment in the control's parameters alone."""
    parameters = [p for p in control.parameters() if p.requires_grad]
    if not parameters or not control.training:
        return 0.0
    found = torch.autograd.grad(second_moment(), parameters, allow_unused=True)
    descent = [(p * g).sum() for p, g in zip(parameters, found, strict=True) if g is not None]
    return -torch.stack(descent).sum() / (site.drawn.log_p.shape[1] * site.drawn.scale)
