"""K draws of one guide site, and f = log p - log q at these draws and at other values of the site.

f_at         the site at other values, what is drawn given it drawn anew
f_relaxed    the site and what is drawn given it at values between the states, differentiable in them
f_moved      the site and what is drawn given it at states, differentiable in them but for their densities
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, OneHotCategorical

from pplvm.bounds import Bound
from pplvm.objectives.discrete import Discrete, softened
from pplvm.objectives.estimate import ObjectiveError
from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.dependencies import Dependents
from pplvm.particles.enumeration import coordinates
from pplvm.particles.pair import Pair, Particles, draw_from_pair
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = ["SiteDraw", "family_of", "kind_of"]


class SiteDraw:
    """K draws of one guide site, and f at these draws and at other values.

    Values have all their dimensions, (K, nested plates..., B, event...); f has shape (K, B).
    """

    def __init__(
        self, name: str, bound: Bound, pair: Pair, drawn: Particles, dependent: Dependents, args: tuple, kwargs: dict
    ) -> None:
        self.name, self.bound, self.drawn, self.dependent = name, bound, drawn, dependent
        self._pair, self._args, self._kwargs = pair, args, kwargs
        self.site: Site = drawn.guide_trace.nodes[name]
        self.fn = self.site["fn"]
        self.num_particles = len(drawn.log_p)
        self.value = self._padded(self.site["value"].detach(), self.fn.event_dim)

    @property
    def log_q(self) -> Tensor:
        """Log q of the draws, (K, B), differentiable by the guide's parameters."""
        return self.drawn.plain.log_q_sites[self.name]

    @property
    def f(self) -> Tensor:
        """The terms of the log-weights that depend on the site, at the draws, (K, B)."""
        return self.dependent.signal(self.drawn).detach()

    @torch.no_grad()
    def f_at(self, values: Tensor) -> Tensor:
        """f with the site at R x K other values (R, K, ...): (R, K, B)."""
        return self.dependent.signal(self._changed(values)).reshape(*values.shape[:2], -1)

    @torch.no_grad()
    def log_weights_at(self, values: Tensor) -> Tensor:
        """All of the log-weights with the site at R x K other values (R, K, ...): (R, K, B)."""
        return self._changed(values).log_weights.reshape(*values.shape[:2], -1)

    def f_relaxed(self, values: Tensor, later: Callable[[Discrete, Tensor], Tensor]) -> Tensor:
        """f at relaxed values (K, ...) of the site, differentiable by them: (K, B).

        Arguments:
            values: of the site.
            later: what a discrete latent that is drawn given the site becomes, from its family and its draw.
        """
        if self._unreached_softly:
            name, kind = next(iter(self._unreached_softly.items()))
            raise ObjectiveError(
                f"guide site {name!r} ({kind}) is drawn given {self.name!r} at soft values and has none itself: draw "
                f"it from Bernoulli or OneHotCategorical, or give {self.name!r} a rule without a slope, such as DisARM"
            )
        soften = _Soften(self.dependent.redrawn, later)
        return self.dependent.signal(self._changed(values.unsqueeze(0), soften, frozenset({self.name}) | soften.names))

    def f_moved(self, values: Tensor, later: Callable[[Discrete, Tensor], Tensor]) -> Tensor:
        """f at states (K, ...) of the site, differentiable by them: (K, B); densities of states have no slope in them.

        Arguments:
            values: of the site.
            later: what a discrete latent that is drawn given the site becomes, a state, from its family and its draw.
        """
        return self.dependent.signal(self._changed(values.unsqueeze(0), _Soften(self.dependent.redrawn, later)))

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform noise strictly inside (0, 1), since `torch.rand` may be 0."""
        return torch.rand_like(like).clamp(min=torch.finfo(like.dtype).eps / 4)

    def per_datum(self, terms: Tensor, event_dim: int | None = None) -> Tensor:
        """Sum terms of coordinates (..., K, nested..., B, event...) over all but K and B: (..., K, B).

        Arguments:
            event_dim: of the terms, where it is not the site's.
        """
        event, nested = self.fn.event_dim if event_dim is None else event_dim, self._pair.nesting - 1
        total = terms.sum(tuple(range(-event, 0))) if event else terms
        return total.sum(tuple(range(-1 - nested, -1))) if nested else total

    def spread(self, per_particle: Tensor, event_dim: int | None = None) -> Tensor:
        """Expand (..., K, B) with dimensions of size one for the coordinates."""
        event, nested = self.fn.event_dim if event_dim is None else event_dim, self._pair.nesting - 1
        *left, B = per_particle.shape
        return per_particle.reshape(*left, *[1] * nested, B, *[1] * event)

    def with_each(self, values: Tensor, own: int = 0) -> Tensor:
        """The draws with one coordinate of every datum replaced at a time: (S, K, ...) to (n S, K, ...).

        Arguments:
            own: dimensions at the right that belong to one coordinate.
        """
        chosen = self._each(own)
        return torch.where(chosen.unsqueeze(1), values.unsqueeze(0), self.value).flatten(0, 1)

    def collected(self, found: Tensor, own: int = 0) -> Tensor:
        """Arrange results for each changed coordinate, (n S, K, B), at that coordinate: (S, K, ...)."""
        nested, event = self._places(own)
        each = found.reshape(*nested, *event, -1, *found.shape[1:])
        a, n = len(nested), len(nested) + len(event)
        return each.permute(n, n + 1, *range(a), n + 2, *range(a, n))

    def _each(self, own: int) -> Tensor:
        """A mask of each coordinate: (n, 1, nested..., 1, event..., 1...)."""
        nested, event = self._places(own)
        eye = torch.eye(torch.Size([*nested, *event]).numel(), dtype=torch.bool, device=self.value.device)
        return eye.reshape(-1, 1, *nested, 1, *event, *[1] * own)

    def _places(self, own: int) -> tuple[torch.Size, torch.Size]:
        """The nested plates' sizes, and those of the event without what belongs to one coordinate."""
        shape, nesting = self.value.shape, self._pair.nesting
        return shape[1:nesting], shape[1 + nesting : len(shape) - own]

    @property
    def _unreached_softly(self) -> dict[str, str]:
        """Later sites that are neither reparameterized nor relaxable, and their kinds."""
        later = self._later_draws().items()
        return {name: kind_of(site) for name, site in later if family_of(site) not in ("Bernoulli", "OneHotCategorical")}

    def _changed(
        self, values: Tensor, soften: "_Soften | None" = None, soft: frozenset[str] = frozenset()
    ) -> Particles:
        """Run the program with the site at values (R, K, ...) and sites that depend on it redrawn.

        Arguments:
            soften: gives discrete ones among them their values.
            soft: sites whose densities are extended to values between the states.
        """
        R, K = values.shape[:2]
        fixed = Trace()
        fixed.nodes.update({n: s for n, s in self.drawn.guide_trace.nodes.items() if site_is_subsample(s)})
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
        pair = replace(self._pair.again, guide=guide)
        if soften is not None:
            soften.draws = {n: self._padded(v["value"], v["fn"].event_dim) for n, v in self._later_draws().items()}
            pair = _SoftPair(**vars(pair) | {"guide": soften(guide), "soft": soft & {self.name, *soften.draws}})
        return draw_from_pair(pair, R * K, self._args, self._kwargs)

    def _later_draws(self) -> dict[str, Site]:
        sites = latents(self.drawn.guide_trace)
        return {n: sites[n] for n in self.dependent.redrawn if not is_reparameterized(sites[n]["fn"])}

    def _padded(self, value: Tensor, event_dim: int) -> Tensor:
        """With all its plate dimensions, (K, nested..., B, event...)."""
        full = 1 + self._pair.nesting + event_dim
        return value[(None,) * (full - value.dim())]


@dataclass(frozen=True)
class _SoftPair(Pair):
    """A pair that evaluates the densities of some sites at relaxed values."""

    soft: frozenset[str] = frozenset()

    def run(self, program: Any, num_particles: int, args: tuple, kwargs: dict) -> Trace:
        trace = super().run(program, num_particles, args, kwargs)
        for name, site in sample_sites(trace).items():
            if name in self.soft:
                try:
                    site["fn"] = softened(site["fn"])
                except TypeError as error:  # of a model on a wider support than the guide's
                    raise ObjectiveError(
                        f"site {name!r}: {error}, or use a rule without a slope, such as DisARM"
                    ) from error
        return trace


class _Soften(Messenger):
    """A Pyro messenger that gives discrete latents relaxed values."""

    def __init__(self, names: frozenset[str], later: Callable[[Discrete, Tensor], Tensor]) -> None:
        super().__init__()
        self.names, self.later, self.draws = names, later, {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.draws and not msg["done"] and not msg["is_observed"]:
            draw = self.draws[msg["name"]]
            msg["value"], msg["done"] = self.later(Discrete(msg["fn"]), draw[0] if len(draw) == 1 else draw), True


def kind_of(site: Site) -> str:
    """The name of a site's distribution."""
    return type(coordinates(site["fn"])).__name__


def family_of(site: Site) -> str:
    """The name of a site's distribution, or of the discrete one that it is a child of and draws as."""
    single = coordinates(site["fn"])
    if not single.has_rsample:
        for family in (Bernoulli, OneHotCategorical, Categorical):
            if isinstance(single, family):
                return family.__name__
    return type(single).__name__
