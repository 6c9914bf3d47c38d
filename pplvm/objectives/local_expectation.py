"""Local expectation gradients: each discrete coordinate is enumerated while the others are sampled.

    gradient = sum_i sum_v d q(z_i = v | x, what came before) E[f(z with z_i = v)],     f = log p - log q

Sites drawn after coordinate i are drawn anew for each of its values.
"""

from math import prod

import torch
from torch import Tensor

from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.site_rule import SiteRule
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.categorical_log_prob import gathering_log_prob, is_categorical
from pplvm.particles.contract import Site
from pplvm.particles.enumeration import (
    MOST_BYTES,
    coordinates,
    is_enumerable,
    number_of_states,
    one_coordinate,
    support,
)

__all__ = ["LocalExpectation", "LocalExpectationRule"]


class LocalExpectation(Sitewise):
    """The elbo's gradient with each discrete coordinate enumerated in turn.

    Costs 1 + n S model evaluations per datum for n coordinates of S states. As an estimator it is expensive,
    as a reference where no enumeration reaches it is the best at hand.

    Raises:
        ObjectiveError: on the first batch, a guide site without a path has no finite number of states, or so many that
            memory will not hold them.

    References:
        Titsias and Lazaro-Gredilla, Local expectation gradients for black box variational inference, 2015,
        arXiv:1503.01494
    """

    def __init__(self) -> None:
        super().__init__(LocalExpectationRule())


class LocalExpectationRule(SiteRule):
    """Every discrete coordinate of a site summed out in turn."""

    many_at_once = True
    takes_masks = True  # q of a hidden draw is still summed over, and the densities in f are hidden for every value

    def refusal(self, site: Site) -> str | None:
        if not is_enumerable(site):
            return "it has no finite number of states"
        fn, single = site["fn"], coordinates(site["fn"])
        if one_coordinate(fn) is not single:
            return "its coordinates are not drawn independently of each other, so that none is summed out alone"
        S, size = number_of_states(single), prod(fn.batch_shape) * prod(fn.event_shape)
        n = size // fn.batch_shape[-1] // prod(single.event_shape)  # coordinates of a datum
        needed = n * S * size * torch.get_default_dtype().itemsize
        if needed <= MOST_BYTES:
            return None
        return (
            f"the {S:,} states of each coordinate of a datum take a tensor of {needed / 2**30:,.1f} GiB, more than "
            f"{MOST_BYTES // 2**30}: use smaller batches, or LeaveOneOut"
        )

    def surrogate(self, site: SiteDraw) -> Tensor:
        single = coordinates(site.fn)
        own, event_dim = len(single.event_shape), site.fn.event_dim - len(single.event_shape)
        states = support(site.fn)  # (S, own...)
        places = site.value.shape[: site.value.dim() - own]  # (K, nested..., B, event...)
        each = states.reshape(len(states), *[1] * len(places), *single.event_shape).expand(-1, *site.value.shape)
        f = site.collected(site.f_at(site.with_each(each, own)), own)  # (S, K, nested..., B, event...)
        if is_categorical(single):
            log_q = (
                gathering_log_prob(single).log_prob(states[(slice(None), *[None] * len(places))]).expand(-1, *places)
            )
        else:
            log_q = torch.stack([single.log_prob(state.expand(*places, *state.shape)) for state in states])
        f = f.masked_fill(log_q == -torch.inf, 0.0)  # of a state ruled out, whose f is infinite
        return site.per_datum((log_q.exp() * f).sum(0), event_dim).mean(0)
