"""The annealing path between a start and the posterior of one datum, for the latents of any program.

    log f_beta(z) = (1 - beta) log q0(z) + beta log p(x, z),     q0 = the guide or the model's prior

Continuous latents stand as free coordinates u, z = T(u) by the bijection onto their support, and both densities
carry its Jacobian; discrete latents stand as numbers of their states. Chains are particles, one datum the batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution, Transform, biject_to

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.annealing.point import Point
from pplvm.particles.contract import ProgramError, Site, latents, sample_sites
from pplvm.particles.enumeration import coordinates, is_enumerable, support
from pplvm.particles.factors import unnormalised
from pplvm.particles.masks import unmasked
from pplvm.particles.pair import Pair, sum_sites
from pplvm.particles.point_masses import is_point, point_in_words
from pplvm.particles.random_lower_bounds import why_not_exact
from pplvm.particles.supports import narrower, same_support

__all__ = ["AnnealingPath", "Start", "require_normalised"]

Start = Literal["guide", "prior"]


@dataclass(frozen=True)
class _Free:
    transform: Transform
    shape: torch.Size  # of one particle's u, plates first


@dataclass(frozen=True)
class _Finite:
    states: Tensor  # (S, event of a coordinate)
    shape: torch.Size  # of one particle's value


@dataclass(frozen=True)
class AnnealingPath:
    """The log-densities of one datum's latents between a start distribution and the model's joint."""

    pair: Pair
    row: tuple[Tensor, ...]  # a datum (1, ...) and its conditions
    start: Start
    sites: dict[str, Site]  # latents of one particle, from the start
    free: dict[str, _Free]
    finite: dict[str, _Finite]
    still: dict[str, Distribution] | None  # of the guide, where no draw changes another's distribution

    @classmethod
    def of(cls, pair: Pair, row: Batch, start: Start) -> "AnnealingPath":
        """Build the path of a checked pair and one datum.

        Raises:
            ProgramError: there is no latent, or one is auxiliary, a point mass, or neither finite nor on a support with
                a bijection; a term of the model, or of the guide that chains start from, is one that nothing
                normalises.
            ValueError: start has another name.
        """
        if start not in ("guide", "prior"):
            raise ValueError(f"start must be 'guide' or 'prior', got {start!r}")
        row = as_tuple(row)
        started = _started(pair, row, start, 1)
        sites, still = latents(started), None
        if not sites:
            raise ProgramError("the program has no latents to anneal: log_evidence gives log p(x) as it is")
        require_normalised(pair, row, started, start)
        if start == "guide":
            _require_densities(sites)
            for narrow in narrower(latents(pair.run_model(1, started, row, {})), sites).values():
                raise ProgramError(f"{narrow}, which chains from the guide never leave: use start='prior'")
            still = _still(pair, row)
        finite = {n: _Finite(support(s["fn"]), s["value"].shape) for n, s in sites.items() if is_enumerable(s)}
        free = {n: _freed(n, s) for n, s in sites.items() if n not in finite}
        return cls(pair, row, start, sites, free, finite, still)

    def draw(self, num_chains: int) -> Point:
        """Draw K points of the start.

        Raises:
            ProgramError: a support differs between draws, or the guide cannot tell the density of given values.
        """
        drawn = latents(_started(self.pair, self.row, self.start, num_chains))
        for name, site in drawn.items():
            if not same_support(site["fn"].support, self.sites[name]["fn"].support):
                raise ProgramError(
                    f"site {name!r} has a support that depends on other latents, and chains walk on one support: "
                    "draw a latent with fixed bounds and rescale it in the model"
                )
        try:
            return self.hold({name: site["value"] for name, site in drawn.items()}, num_chains)
        except (KeyError, NotImplementedError, RuntimeError, ProgramError) as error:  # of flows without an inverse
            raise ProgramError(
                f"the {self.start} cannot tell the density of a value that it has not just drawn: draw from a flow "
                "with an inverse, or use start='prior', for which the guide needs no density"
            ) from error

    def hold(self, values: dict[str, Tensor], num_chains: int) -> Point:
        """The point at given values of each latent, of K particles or of one that all chains share."""
        free, states = [], {}
        for name, site in self.sites.items():
            size = self._shape(name, num_chains, site["value"].shape)
            value = values[name].detach().expand(size)
            if name in self.free:
                u: Any = self.free[name].transform.inv(value)
                free.append(u.reshape(num_chains, -1))
            else:
                known = self.finite[name].states
                each = value.reshape(num_chains, -1, 1, *known.shape[1:])
                same = (each == known).reshape(*each.shape[:2], len(known), -1).all(-1)
                states[name] = same.int().argmax(-1)
        return self.at(torch.cat(free, 1) if free else self.row[0].new_zeros(num_chains, 0), states)

    def at(self, free: Tensor, states: dict[str, Tensor], sloped: bool = False) -> Point:
        """The log-densities at unconstrained coordinates (K, n) and states, with their gradients if asked."""
        with torch.set_grad_enabled(sloped):
            free = free.detach().requires_grad_(sloped)
            values, log_jacobian = self._values(free, states)
            log_start, log_joint = (log + log_jacobian for log in self._log_densities(values, len(free)))
        slopes = None
        if sloped:
            slopes = (_gradient(log_start, free), _gradient(log_joint, free))
        return Point(free.detach(), states, log_start.detach(), log_joint.detach(), slopes)

    def _values(self, free: Tensor, states: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Each latent's value, and the log-determinant (K,) of the bijection from unconstrained coordinates."""
        K = len(free)
        values, log_jacobian = {}, free.new_zeros(K, dtype=torch.float64)
        parts = free.split([prod(part.shape) for part in self.free.values()], 1) if self.free else ()
        for (name, latent), part in zip(self.free.items(), parts, strict=True):
            u = part.reshape(self._shape(name, K, latent.shape))
            values[name] = latent.transform(u)
            log_jacobian = log_jacobian + latent.transform.log_abs_det_jacobian(u, values[name]).reshape(K, -1).sum(1)
        for name, latent in self.finite.items():
            values[name] = latent.states[states[name]].reshape(self._shape(name, K, latent.shape))
        return values, log_jacobian

    def _log_densities(self, values: dict[str, Tensor], K: int) -> tuple[Tensor, Tensor]:
        """Log q0 and log p at the values, each (K,), without masks, since they would not integrate to one."""
        held = _held(self.sites, values)
        terms = self._terms(self.pair.run_model(K, held, self.row, {}), K)
        if self.start == "prior":
            return _total(terms[name] for name in self.sites), _total(terms.values())
        if self.still is None:
            guide = poutine.replay(self.pair.guide, trace=held)
            drawn = self._terms(self.pair.run(guide, K, self.row, {}), K)
        else:
            drawn = {n: self.pair.per_datum(fn.log_prob(values[n])).expand(K, -1) for n, fn in self.still.items()}
        return _total(drawn.values()), _total(terms.values())

    def _terms(self, trace: Trace, K: int) -> dict[str, Tensor]:
        for name in self.sites:
            trace.nodes[name].update(mask=None, fn=unmasked(trace.nodes[name]["fn"]))
        return self.pair.log_probs(trace, K)

    def _shape(self, name: str, K: int, one: torch.Size) -> tuple[int, ...]:
        """The shape for K particles of what has shape `one` for one particle, K left of all plates."""
        if K == 1:
            return tuple(one)
        plates = len(self.sites[name]["fn"].batch_shape)
        return (K, *[1] * (self.pair.nesting - plates), *one)


def _started(pair: Pair, row: tuple[Tensor, ...], start: Start, num_chains: int) -> Trace:
    if start == "guide":
        return pair.run_guide(num_chains, row, {})
    return pair.run_model(num_chains, None, row, {})


def _held(sites: dict[str, Site], values: dict[str, Tensor]) -> Trace:
    """A trace of given values, for `poutine.replay`."""
    held = Trace()
    for name, site in sites.items():
        held.nodes[name] = dict(site, value=values[name])
    return held


def _still(pair: Pair, row: tuple[Tensor, ...]) -> dict[str, Distribution] | None:
    """The guide's distributions, checked to be the same at two fixed draws."""
    drawn = latents(pair.run_guide(2, row, {}))
    held = _held(drawn, {name: site["value"] for name, site in drawn.items()})
    sites = latents(pair.run(poutine.replay(pair.guide, trace=held), 2, row, {}))
    fns = {name: unmasked(site["fn"]) for name, site in sites.items()}
    return fns if all(len(fn.batch_shape) <= pair.nesting for fn in fns.values()) else None


def require_normalised(pair: Pair, row: tuple[Tensor, ...], started: Trace, start: Start) -> None:
    """Refuse a program without a log p(x), or without all of its densities, or whose guide's chains cannot start from.

    Arguments:
        started: a trace of what `start` names.
    """
    model_trace = started if start == "prior" else pair.run_model(1, started, row, {})
    if fault := why_not_exact(model_trace, started if start == "guide" else None, "annealing"):
        raise ProgramError(fault)
    guide_sites = sample_sites(started) if start == "guide" else {}
    if term := unnormalised(sample_sites(model_trace), guide_sites):
        raise ProgramError(f"chains lead to log p(x), which the program does not have: {term}")


def _require_densities(sites: dict[str, Site]) -> None:
    for name, site in sites.items():
        if site["infer"].get("is_auxiliary"):
            raise ProgramError(
                f"guide site {name!r} is auxiliary, so log q(z | x) is not known: use start='prior', which needs none"
            )
        if is_point(site["fn"]):
            told = point_in_words(site["fn"])
            raise ProgramError(f"guide site {name!r} is {told}, which has no density: use start='prior'")


def _freed(name: str, site: Site) -> _Free:
    """The unconstrained coordinates of a continuous latent."""
    try:
        transform = biject_to(site["fn"].support)
        u = transform.inv(site["value"])
        transform.log_abs_det_jacobian(u, site["value"])
    except NotImplementedError as error:
        raise ProgramError(
            f"site {name!r} ({type(coordinates(site['fn'])).__name__}) is neither finite nor on a support with a "
            "bijection from the reals, so no chain can walk on it: use importance sampling"
        ) from error
    return _Free(transform, u.shape)


def _total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of (K, 1) terms, (K,), in float64."""
    return sum_sites({str(n): term.double() for n, term in enumerate(terms)}).squeeze(1)


def _gradient(value: Tensor, free: Tensor) -> Tensor:
    """The gradient by unconstrained coordinates (K, n); the graph is kept, since both densities share the bijection."""
    ones = torch.ones_like(value)
    return torch.autograd.grad(value, free, ones, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
