"""Parallel enumeration of discrete latents: every state in a dimension of its own, left of all plates.

A site of n coordinates with S states each (its event dimensions and the plates nested in the batch) takes
S^n states, so this is for small n; there are no further approximations. A mask on a latent hides its density
from the log-weights, not from the states' probabilities.
"""

from collections.abc import Callable, Iterable
from math import log10, prod
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical

from pplvm.particles.categorical_log_prob import gathering_log_prob
from pplvm.particles.contract import ProgramError, Site, coordinates, latents
from pplvm.particles.masks import is_masked, share_masks, unmasked
from pplvm.particles.pair import Pair, sum_sites
from pplvm.particles.tempering import latent_terms

__all__ = [
    "TooManyStates",
    "coordinates",
    "enumerate_guide",
    "enumerate_model",
    "extreme_states",
    "guide_states",
    "is_enumerable",
    "latent_states",
    "next_state",
    "number_of_states",
    "one_coordinate",
    "support",
]

MOST_STATES = 2**20

MOST_BYTES = 2**32
"""Of one tensor with all states of all data; a step holds several of them."""


class TooManyStates(ProgramError):
    """Enumeration would take more states, or more memory, than allowed."""


def is_enumerable(site: Site) -> bool:
    """Whether a site has a finite support."""
    return bool(one_coordinate(site["fn"]).has_enumerate_support)


def one_coordinate(fn: Distribution) -> Distribution:
    """A distribution on the states of a single coordinate: that of each, unless they are drawn jointly.

    A joint distribution of finitely many coordinates takes part by an attribute `coordinate`, a distribution with the
    states of one of them; its event shape is that of a coordinate at the right.
    """
    single: Any = coordinates(fn)
    return getattr(single, "coordinate", single)


def latent_states(trace: Trace) -> int | None:
    """The number of joint states of a trace's latents; None if one is continuous."""
    sites = latents(trace).values()
    return prod(map(_states, sites)) if all(map(is_enumerable, sites)) else None


def enumerate_guide(pair: Pair, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
    """Log p(x, z) and log q(z | x) for every state z of the guide's latents: two tables (S, B).

    Of a tempered pair log q is as it is, and log p such that log p - log q is tempered.

    Raises:
        ProgramError: a latent is continuous.
        TooManyStates: there are too many states, or they take too much memory.
    """
    guide_trace = guide_states(pair, args, kwargs)
    model = _Enumerate(-1 - pair.nesting)(poutine.replay(pair.model, trace=guide_trace))
    model_trace = pair.run(model, 1, args, kwargs)
    pair.require_checked(model_trace, guide_trace, args, kwargs)
    share_masks(model_trace, guide_trace)
    log_p_sites, log_q_sites = (pair.site_terms(_indexed(t, latents(guide_trace))) for t in (model_trace, guide_trace))
    log_p, log_q = sum_sites(log_p_sites), sum_sites(log_q_sites)
    if pair.tempering is not None:
        log_p = log_q + pair.tempering.tempered(log_p - log_q, latent_terms(log_p_sites, log_q_sites))
    hidden = _hidden(pair, latents(guide_trace))
    log_p, log_q = torch.broadcast_tensors(log_p + hidden, log_q + hidden)
    return log_p.flatten(0, -2), log_q.flatten(0, -2)


def guide_states(pair: Pair, args: tuple, kwargs: dict) -> Trace:
    """The guide's trace with every state of its latents, those of the n-th in dimension -n - pair.nesting.

    Raises:
        ProgramError, TooManyStates: as `enumerate_guide`.
    """
    assert pair.guide is not None
    return pair.run(_Enumerate(-1 - pair.nesting)(pair.guide), 1, args, kwargs)


def enumerate_model(
    pair: Pair, guide_trace: Trace | None, num_particles: int, args: tuple, kwargs: dict
) -> tuple[Tensor, Trace]:
    """Log p(x, z) with all latents that the guide does not sample summed out (K, B), and the trace.

    Raises:
        ProgramError: a latent that is not in the guide is continuous.
        TooManyStates: there are too many states, or they take too much memory.
    """
    first_dim = -1 - pair.nesting - (num_particles > 1)
    model = pair.model if guide_trace is None else poutine.replay(pair.model, trace=guide_trace)
    model_trace = pair.run(_Enumerate(first_dim)(model), num_particles, args, kwargs)
    pair.require_checked(model_trace, guide_trace, args, kwargs)
    if guide_trace is not None:
        share_masks(model_trace, guide_trace)
    drawn = latents(guide_trace) if guide_trace is not None else {}
    summed = {name: site for name, site in latents(model_trace).items() if name not in drawn}
    terms = pair.site_terms(_indexed(model_trace, summed))
    log_p = sum_sites(terms) + _hidden(pair, summed)  # (S_n, ..., S_1, [K], B)
    plain = 1 if num_particles == 1 else 2
    log_p = log_p.flatten(0, -1 - plain).logsumexp(0) if log_p.dim() > plain else log_p
    return log_p.reshape(num_particles, -1), model_trace


def extreme_states(pair: Pair, program: Callable[..., Any], num_particles: int, args: tuple, kwargs: dict) -> Trace:
    """Run a program with the first and the last state of every latent without a value, as a trial.

    Raises:
        ProgramError: as `enumerate_model`.
    """
    first_dim = -1 - pair.nesting - (num_particles > 1)
    return pair.run(_Enumerate(first_dim, extremes=True)(program), num_particles, args, kwargs)


def _hidden(pair: Pair, sites: dict[str, Site]) -> Tensor | float:
    """What masks remove from the densities of sites: (..., B)."""
    total: Tensor | float = 0.0
    for site in sites.values():
        if is_masked(site):
            fn = gathering_log_prob(site["fn"])
            seen = scale_and_mask(fn.log_prob(site["value"]), mask=site["mask"])
            total = total + pair.per_datum(unmasked(fn).log_prob(site["value"]) - seen)
    return total


def _indexed(trace: Trace, names: Iterable[str]) -> Trace:
    """The same trace with categorical log-densities by gather at these sites."""
    found = trace.copy()
    for name in found.nodes.keys() & set(names):
        found.nodes[name] = dict(site := trace.nodes[name], fn=gathering_log_prob(site["fn"]))
    return found


class _Enumerate(Messenger):
    """A Pyro messenger that gives each latent without a value all of its states, or the first and last."""

    def __init__(self, first_dim: int, extremes: bool = False) -> None:
        super().__init__()
        self.first_dim, self.extremes = first_dim, extremes

    def __enter__(self) -> "_Enumerate":
        self.dim, self.states = self.first_dim, 1
        return super().__enter__()

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        if msg["done"] or msg["is_observed"]:
            self._require_memory(msg, prod(msg["fn"].batch_shape) * prod(msg["fn"].event_shape))
            return
        if not is_enumerable(msg):
            raise ProgramError(
                f"site {msg['name']!r} ({type(coordinates(msg['fn'])).__name__}) has no finite number of "
                "states and cannot be summed out: draw it in the guide"
            )
        self.states *= _states(msg)
        if self.states > MOST_STATES:
            raise TooManyStates(
                f"summing out site {msg['name']!r} takes 10^{log10(self.states):.0f} joint states, more than "
                f"{MOST_STATES:,}: use an objective that draws it, such as LeaveOneOut"
            )
        self._require_memory(msg, _table_size(msg, self.dim))
        msg["value"] = self._all_states(msg)
        msg["done"] = True
        self.dim -= 1

    def _require_memory(self, msg: Any, numbers: int) -> None:
        """Refuse a site whose numbers in all states are too many for memory, before they are computed."""
        needed = numbers * torch.get_default_dtype().itemsize
        if needed > MOST_BYTES:
            raise TooManyStates(
                f"site {msg['name']!r} in {self.states:,} joint states takes a tensor of {needed / 2**30:,.1f} GiB, "
                f"more than {MOST_BYTES // 2**30}: use smaller batches, or an objective that draws the latents, such "
                "as LeaveOneOut"
            )

    def _all_states(self, msg: Any) -> Tensor:
        """(S^n, 1..., nested plates..., 1, event...), the states in dimension `self.dim`."""
        states = support(msg["fn"])
        shape = _grid_shape(msg)
        places = torch.arange(len(states), device=states.device)
        if self.extremes:
            grid = torch.stack([place.expand(shape) for place in (places[0], places[-1])])
        else:
            grid = torch.cartesian_prod(*[places] * prod(shape)).reshape(-1, *shape)
        nested = _nested_sizes(msg)
        event = grid.shape[1 + len(nested) :]
        values = states[grid.reshape(len(grid), *nested, 1, *event)]
        others = -self.dim - 2 - len(nested)
        return values[(slice(None), *[None] * others)]


def _states(site: Site) -> int:
    """The number of states of one site, per datum."""
    return number_of_states(site["fn"]) ** prod(_grid_shape(site))


def _table_size(site: Site, dim: int) -> int:
    """The number of elements of a site's enumerated values or densities, whichever is larger."""
    fn, coordinates_of_datum = site["fn"], prod(_grid_shape(site))
    states = torch.Size([_states(site), *[1] * (-dim - 1)])
    densities = torch.broadcast_shapes(states, fn.batch_shape)
    nested = prod(_nested_sizes(site))
    return max(prod(densities) * coordinates_of_datum // nested, states.numel() * nested * prod(fn.event_shape))


def number_of_states(fn: Distribution) -> int:
    """The number of states of a single coordinate, without enumerating them."""
    single = one_coordinate(fn)
    return single.event_shape[0] if isinstance(single, OneHotCategorical) else len(support(single))


def support(fn: Distribution) -> Tensor:
    """The states of a single coordinate, (S, event of the coordinate...)."""
    single = one_coordinate(fn)
    return single.enumerate_support(expand=False).reshape(-1, *single.event_shape)


def next_state(fn: Distribution, value: Tensor) -> Tensor:
    """The state after a value, cyclically, of each coordinate."""
    if isinstance(one_coordinate(fn), OneHotCategorical):
        return value.roll(1, -1)
    states, own = support(fn), len(one_coordinate(fn).event_shape)  # (S, own...)
    here = value.reshape(*value.shape[: value.dim() - own], 1, *states.shape[1:]) == states
    place = (here.flatten(-own) if own else here.unsqueeze(-1)).all(-1).long().argmax(-1)
    return states[(place + 1) % len(states)]


def _nested_sizes(site: Site) -> list[int]:
    """Sizes of the plates nested in the batch, by dimension, 1 where a dimension has none."""
    sizes = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized and f.name != "particles"}
    return [sizes.get(dim, 1) for dim in range(min(sizes, default=-1), -1)]


def _grid_shape(site: Site) -> list[int]:
    fn = site["fn"]
    own = len(one_coordinate(fn).event_shape)
    return [*_nested_sizes(site), *fn.event_shape[: len(fn.event_shape) - own]]
