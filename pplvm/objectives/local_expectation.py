"""Each discrete coordinate summed out exactly while the others are drawn: little variance, many evaluations.

    gradient = sum_i sum_v d q(z_i = v | x, what came before) E[f(z with z_i = v)],     f = log p - log q

Sites drawn after coordinate i are drawn anew for each of its values.
"""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pplvm.bounds import Bound, elbo
from pplvm.contract import Site, latents
from pplvm.enumeration import coordinates, is_enumerable, support
from pplvm.objectives.objective import Estimate, Objective, ObjectiveError
from pplvm.objectives.score_function import along_paths
from pplvm.objectives.stopped_guide import require_replayable
from pplvm.particles import Pair, cuda_devices, gather

__all__ = ["LocalExpectation"]


class LocalExpectation(Objective):
    """The elbo's gradient with every discrete coordinate summed out in turn.

    Costs 1 + n S model evaluations per datum for n coordinates of S states. As an estimator it is expensive,
    as a reference where no enumeration reaches it is the best at hand.

    Raises:
        ObjectiveError: a guide site without a path has no finite number of states.

    References:
        Titsias and Lazaro-Gredilla, Local expectation gradients for black box variational inference, 2015,
        arXiv:1503.01494
    """

    def __init__(self) -> None:
        super().__init__(num_particles=1)

    @property
    def target(self) -> Bound:
        return elbo

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            require_replayable(self, pair, pair.run_guide(1, args, kwargs), args, kwargs)
        return pair

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = gather(pair, 1, args, kwargs)
        surrogate = along_paths(elbo, drawn)
        for name in drawn.score_sites:
            site = drawn.guide_trace.nodes[name]
            if not is_enumerable(site):
                kind = type(coordinates(site["fn"])).__name__
                raise ObjectiveError(f"LocalExpectation: guide site {name!r} ({kind}) has no finite number of states")
            signal = self._signal(pair, drawn.guide_trace, name, args, kwargs)  # (n, S, B)
            surrogate = surrogate + (_probabilities(site, pair.nesting) * signal).sum((0, 1))
        return Estimate(elbo(drawn.log_weights.detach()), surrogate, drawn.scale)

    @torch.no_grad()
    def _signal(self, pair: Pair, base: Trace, name: str, args: tuple, kwargs: dict) -> Tensor:
        """f with one coordinate of one site set to one state, what follows drawn anew: (n, S, B)."""
        site = base.nodes[name]
        variants = _variants(site, pair.nesting)  # (n, S, nested..., B, event...)
        R = variants.shape[0] * variants.shape[1]
        earlier = Trace()
        for other, drawn in latents(base).items():
            value = variants.flatten(0, 1) if other == name else _repeated(drawn, R, pair.nesting)
            earlier.nodes[other] = dict(drawn, value=value)
            if other == name:
                break
        changed = Pair(pair.model, poutine.replay(pair.guide, trace=earlier), pair.nesting)
        return gather(changed, R, args, kwargs).log_weights.reshape(*variants.shape[:2], -1)


def _repeated(site: Site, R: int, nesting: int) -> Tensor:
    value = _padded(site["value"], site["fn"].event_dim, nesting)
    return value.unsqueeze(0).expand(R, *value.shape)


def _padded(value: Tensor, event_dim: int, nesting: int) -> Tensor:
    """A value with all its plate dimensions, (nested..., B, event...)."""
    return value[(None,) * (nesting + event_dim - value.dim())]


def _variants(site: Site, nesting: int) -> Tensor:
    """The drawn value with coordinate i set to state v: (n, S, nested..., B, event...)."""
    single = coordinates(site["fn"])
    value = _padded(site["value"], site["fn"].event_dim, nesting)
    own = len(single.event_shape)
    places = list(value.shape[: value.dim() - own])
    places[nesting - 1] = 1  # one coordinate of every datum at once
    n = torch.Size(places).numel()
    chosen = torch.eye(n, dtype=torch.bool, device=value.device).reshape(n, 1, *places, *[1] * own)
    states = support(site["fn"])
    states = states.reshape(1, len(states), *[1] * len(places), *single.event_shape)
    return torch.where(chosen, states, value)


def _probabilities(site: Site, nesting: int) -> Tensor:
    """q(coordinate i = v | x, what came before), differentiable: (n, S, B)."""
    single = coordinates(site["fn"])
    own = len(single.event_shape)
    value = _padded(site["value"], site["fn"].event_dim, nesting)
    places = value.shape[: value.dim() - own]
    states = support(site["fn"])
    log_q = torch.stack([single.log_prob(state.expand(*places, *state.shape)) for state in states])
    log_q = log_q.expand(len(states), *places).movedim(nesting, -1)  # (S, nested..., event..., B)
    if site["mask"] is not None:
        raise ObjectiveError(f"LocalExpectation: guide site {site['name']!r} is masked, which it does not support")
    return log_q.reshape(len(states), -1, log_q.shape[-1]).exp().transpose(0, 1)
