"""The waist: any Pyro model and guide become log-weights of K particles by B data.

    log_w[k, b] = log p(x_b, z_kb) - log q(z_kb | x_b),   z_kb ~ q(z | x_b)

Shape letters, here and everywhere: K particles, B batch, D data, Z latent, C H W image.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from torch import Tensor, nn
from torch.distributions import Distribution

from pplvm.particles.autoguides import automatic_guides, same_rows
from pplvm.particles.contract import ProgramError, Site, plate_scale, sample_sites, traced, violations
from pplvm.particles.flows import log_density, pathless_copies
from pplvm.particles.masks import is_masked, share_masks, unmasked
from pplvm.particles.reparameterized_sites import DetachedSites, is_reparameterized
from pplvm.particles.side_effects import buffers_restored, cuda_devices, without_side_effects
from pplvm.particles.structure import Structures, structure
from pplvm.particles.supports import confine
from pplvm.particles.tempering import Tempering, latent_terms

__all__ = [
    "Pair",
    "Particles",
    "cuda_devices",
    "draw_from_pair",
    "inspect_pair",
    "owners",
    "pair_up",
    "sum_sites",
    "validation",
]

Program = Callable[..., Any]

MOST_TOLD = 5
"""Broken rules told at once: a loop over data would break one rule a datum."""


@dataclass(frozen=True)
class Particles:
    """Log-densities of a program's run, K particles by B data, in nats."""

    log_p: Tensor  # (K, B)
    log_q: Tensor  # (K, B)
    log_q_score_sites: dict[str, Tensor]  # each (K, B), draws without gradient, unmasked: masked draws are draws too
    log_p_sites: dict[str, Tensor]  # each (K, B)
    log_q_sites: dict[str, Tensor]  # each (K, B)
    score_sites: tuple[str, ...]  # sites of log_q_score with something to learn
    scale: float  # N/B of a subsampled plate: multiplies the loss, never a weight
    model_trace: Trace
    guide_trace: Trace
    untempered: "Particles | None" = None

    @property
    def plain(self) -> "Particles":
        """The particles without tempering, which weights a latent's log p and log q but not its score."""
        return self.untempered or self

    @property
    def log_weights(self) -> Tensor:
        return self.log_p - self.log_q  # (K, B)

    @property
    def log_q_score(self) -> Tensor:
        return sum_sites(self.log_q_score_sites, self.log_p)  # (K, B)

    @property
    def log_q_path(self) -> Tensor:
        path = {name: log_q for name, log_q in self.log_q_sites.items() if name not in self.log_q_score_sites}
        return sum_sites(path, self.log_p)  # (K, B)

    @property
    def latent_terms(self) -> dict[str, Tensor]:
        return latent_terms(self.log_p_sites, self.log_q_sites)  # each (K, B)


@dataclass(frozen=True)
class Pair:
    """A model and a guide that obey `pplvm.particles.contract`, ready to run with K particles."""

    model: Program
    guide: Program | None
    nesting: int  # plates per site at most; particles are the dimension to their left
    tempering: Tempering | None = field(default=None, compare=False)  # of one evaluation, not of the programs
    structures: Structures | None = field(
        default=None, compare=False
    )  # of the runs that were checked; None lets all pass
    straight_through: bool = False  # whether a discrete draw keeps the gradient that its distribution gives it
    undoing: tuple[nn.Module, ...] | None = field(default=None, compare=False)  # whose buffers a run leaves
    runs: list[tuple[Trace, Trace | None]] | None = field(default=None, compare=False)  # model and guide of the bound

    @property
    def again(self) -> "Pair":
        """The pair for further runs within one step, whose updates of buffers are undone."""
        return self if self.undoing is not None else replace(self, undoing=tuple(owners(self.model, self.guide)))

    def run_guide(self, num_particles: int, args: tuple, kwargs: dict) -> Trace:
        assert self.guide is not None
        with DetachedSites(lambda site: bool(site["fn"].has_rsample) and not self.has_path(site)):
            return self.run(self.guide, num_particles, args, kwargs)

    def run_model(self, num_particles: int, guide_trace: Trace | None, args: tuple, kwargs: dict) -> Trace:
        if guide_trace is None:
            return self.run(self.model, num_particles, args, kwargs)
        model_trace = self.run(poutine.replay(self.model, trace=guide_trace), num_particles, args, kwargs)
        share_masks(model_trace, guide_trace)
        confine(model_trace, guide_trace)
        return model_trace

    def has_path(self, site: Site) -> bool:
        """Whether a site of the guide is reparameterized."""
        return bool(site["fn"].has_rsample) if self.straight_through else is_reparameterized(site["fn"])

    def require_checked(self, model_trace: Trace, guide_trace: Trace | None, args: tuple, kwargs: dict) -> None:
        """Check the program on a batch whose trace has a new structure; keep the traces for `runs`.

        Raises:
            ProgramError: all that the program breaks on this batch, one sentence each.
        """
        if self.undoing is None and self.structures is not None:
            self.structures.require(structure(model_trace, guide_trace), args, kwargs)
        if self.undoing is None and self.runs is not None:
            self.runs.append((model_trace, guide_trace))

    def run(self, program: Program, num_particles: int, args: tuple, kwargs: dict) -> Trace:
        """Trace a program with vectorized particles, without Pyro's validation, which the check has done."""
        tracer = poutine.trace()
        plate = nullcontext() if num_particles == 1 else _ParticlePlate("particles", num_particles, -1 - self.nesting)
        with validation(False), self.buffers_as_they_are(), plate:
            tracer(program).get_trace(*args, **kwargs)
        return tracer.trace

    def log_probs(self, trace: Trace, num_particles: int) -> dict[str, Tensor]:
        """The log-density of each site, unscaled and masked, nested plates summed: (K, B)."""
        terms = zip(sample_sites(trace), self.site_terms(trace).values(), strict=True)
        return {name: term.expand(num_particles, -1) for name, term in terms}

    def unmasked(self, site: Site, num_particles: int) -> Tensor:
        """The log-density of one site without masks: (K, B)."""
        return self.per_datum(_log_prob(dict(site, mask=None, fn=unmasked(site["fn"])))).expand(num_particles, -1)

    def site_terms(self, trace: Trace) -> dict[str, Tensor]:
        """The log-densities with all dimensions left of the plates: (..., B)."""
        with self.buffers_as_they_are():  # a flow runs its modules only here
            return {name: self.per_datum(_log_prob(site)) for name, site in sample_sites(trace).items()}

    def buffers_as_they_are(self) -> AbstractContextManager[None]:
        """Within this context, a pair for further runs leaves buffers unchanged."""
        return nullcontext() if self.undoing is None else buffers_restored(*self.undoing)

    def per_datum(self, term: Tensor) -> Tensor:
        """A term of a site's batch shape, summed over the plates nested in the batch: (..., B)."""
        if self.nesting == 1:
            return term
        nested = tuple(range(-min(self.nesting, term.dim()), -1))
        return term.sum(nested) if nested else term


def pair_up(
    model: Program,
    guide: Program | None,
    args: tuple,
    kwargs: dict,
    summed_out: frozenset[str] = frozenset(),
) -> Pair:
    """Check a program on one batch, with Pyro's validation; random states and buffers are restored.

    Arguments:
        summed_out: latents of the model that the guide leaves out, because they are summed out.

    Raises:
        ProgramError: all that the program breaks, one sentence each.
    """
    model_trace, guide_trace, broken = inspect_pair(model, guide, args, kwargs, summed_out)
    if broken:
        more = [f"and {len(broken) - MOST_TOLD} more"] if len(broken) > MOST_TOLD else []
        raise ProgramError("; ".join([*broken[:MOST_TOLD], *more]))
    traces = [trace for trace in (model_trace, guide_trace) if trace is not None]
    frames = [f for t in traces for s in sample_sites(t).values() for f in s["cond_indep_stack"]]
    nesting = max(-frame.dim for frame in frames if frame.vectorized)

    def check(args: tuple, kwargs: dict) -> Pair:
        return pair_up(model, guide, args, kwargs, summed_out)

    seen = (structure(model_trace, guide_trace), structure(model_trace))  # with the guide, and by itself
    return Pair(model, guide, nesting, structures=Structures(seen, nesting, check))


def inspect_pair(
    model: Program,
    guide: Program | None,
    args: tuple,
    kwargs: dict,
    summed_out: frozenset[str] = frozenset(),
) -> tuple[Trace, Trace | None, list[str]]:
    """Run once with validation: the model's trace, the guide's, and all broken rules; side effects are undone."""
    store = pyro.get_param_store()
    per_row = same_rows(automatic_guides(owners(model, guide)))
    with (
        without_side_effects(owners(model, guide), [*args, *kwargs.values()]),
        store.scope(),
        validation(True),
        per_row,
    ):
        guide_trace = traced("guide", guide, args, kwargs) if guide is not None else None
        replayed = model if guide_trace is None else poutine.replay(model, trace=guide_trace)
        try:
            model_trace, misfit = traced("model", replayed, args, kwargs), None
        except Exception as error:  # on its own draws the model shows where the guide's do not fit
            model_trace, misfit = traced("model", model, args, kwargs), error
        owned = {id(p) for owner in owners(model, guide) for p in owner.parameters()}
        broken = list(violations(model_trace, guide_trace, owned, summed_out))
    if misfit is not None and not broken:
        raise misfit
    return model_trace, guide_trace, broken


def draw_from_pair(pair: Pair, num_particles: int, args: tuple, kwargs: dict) -> Particles:
    """Draw K particles from a checked pair."""
    guide_trace = pair.run_guide(num_particles, args, kwargs)
    if torch.is_grad_enabled():
        guide_trace = pathless_copies(guide_trace)
    model_trace = pair.run_model(num_particles, guide_trace, args, kwargs)
    pair.require_checked(model_trace, guide_trace, args, kwargs)
    log_p_sites, log_q_sites = (pair.log_probs(trace, num_particles) for trace in (model_trace, guide_trace))
    log_p = sum_sites(log_p_sites)
    score_sites = {n: site for n, site in sample_sites(guide_trace).items() if not pair.has_path(site)}
    score = {
        n: pair.unmasked(site, num_particles) if is_masked(site) else log_q_sites[n] for n, site in score_sites.items()
    }
    drawn = Particles(
        log_p=log_p,
        log_q=sum_sites(log_q_sites, log_p),
        log_q_score_sites=score,
        log_p_sites=log_p_sites,
        log_q_sites=log_q_sites,
        score_sites=tuple(name for name, log_q in score.items() if log_q.requires_grad),
        scale=plate_scale([*sample_sites(model_trace).values(), *sample_sites(guide_trace).values()]),
        model_trace=model_trace,
        guide_trace=guide_trace,
    )
    return drawn if pair.tempering is None else _tempered(drawn, pair.tempering)


def sum_sites(sites: dict[str, Tensor], like: Tensor | None = None) -> Tensor:
    """The joint log-density of (K, B) terms; zeros like another tensor without sites."""
    if not sites and like is not None:
        return torch.zeros_like(like)
    first, *rest = sites.values()
    return sum(rest, start=first)


def owners(*programs: Program | None) -> list[nn.Module]:
    """The modules whose parameters programs use: programs themselves, or what they are methods of."""
    found = [getattr(program, "__self__", program) for program in programs]
    return list({id(owner): owner for owner in found if isinstance(owner, nn.Module)}.values())


@contextmanager
def validation(on: bool) -> Iterator[None]:
    """Switch Pyro's validation within a context, and restore torch's setting too."""
    before = Distribution._validate_args
    try:
        with pyro.validation_enabled(on):
            yield
    finally:
        Distribution.set_default_validate_args(before)


def _tempered(drawn: Particles, tempering: Tempering) -> Particles:
    weights = tempering.weights(drawn.log_weights, drawn.latent_terms)
    sides = (drawn.log_p_sites, drawn.log_q_sites)
    p, q = ({name: term * weights.get(name, 1.0) for name, term in sites.items()} for sites in sides)
    log_q = sum_sites(q) if q else drawn.log_q
    return replace(drawn, log_p=sum_sites(p), log_q=log_q, log_p_sites=p, log_q_sites=q, untempered=drawn)


def _log_prob(site: Site) -> Tensor:
    log_prob = log_density(site)
    return log_prob if site["mask"] is None else scale_and_mask(log_prob, mask=site["mask"])


class _ParticlePlate(IndepMessenger):
    """`pyro.plate` without subsampling, which would cost every site time."""

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        BroadcastMessenger._pyro_sample(msg)
