"""KL balancing: while a warm-up lasts, latents whose KL is large for their size cost more than those that hold little.

weight_l = beta gamma_l,     gamma_l proportional to mean_b |KL_lb| / size_l,   mean_l gamma_l = 1,   while beta < 1
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.distributed.collectives import shared_mean
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.tempered import Warmup
from pplvm.objectives.tempering_wrapper import (
    TemperingWrapper,
    latents_of,
    name_of,
    require_terms_of_their_own,
)
from pplvm.objectives.wrapper import Wrapper
from pplvm.particles.contract import Site, latents
from pplvm.particles.pair import Pair
from pplvm.particles.tempering import Tempering, Terms, Weights

__all__ = ["KLBalancing", "balancing_weights"]

LEAST = 0.01
"""Nats that a KL counts at least: the reference implementation's, without which posteriors at the prior give 0 / 0."""


class KLBalancing(TemperingWrapper):
    """Balance the KL terms of several latents while a warm-up raises their weight, so that none collapses early.

        E_q[ log p(x | z) ] - beta_t sum_l gamma_l KL_l,     gamma_l = L a_l / sum_l a_l,
        a_l = (mean_b |KL_lb| + 0.01 nats) / size_l,         size_l the number of coordinates of latent l

    The weights gamma are constants for the gradient, of one draw's mean over particles and batch (and ranks), or of
    closed forms where the objective knows them. At beta_t = 1 they are 1. The value stays the bound itself.

    Arguments:
        objective: a `Warmup` of an objective that estimates the elbo, perhaps within other wrappers.

    Raises:
        ObjectiveError: there is no `Warmup` within; the objective estimates another bound or none; on the first
            batch, the guide has one latent only, or one that is auxiliary.

    Example:
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> objective = KLBalancing(Warmup(AnalyticKL(), steps=1000))

    References:
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898, appendix A
    """

    def __init__(self, objective: ELBO) -> None:
        super().__init__(objective)
        if self.bound is not elbo:
            raise ObjectiveError(f"KLBalancing weighs KL terms, of which {name_of(self.bound)} has none: wrap an elbo")
        if (warmup := _warmup_within(objective)) is None:
            raise ObjectiveError(
                "KLBalancing balances KL terms only while a warm-up raises their weight, and there is none: wrap one, "
                "as in KLBalancing(Warmup(objective, steps=1000))"
            )
        self._warmup = warmup

    @property
    def target(self) -> Callable[[Tensor], Tensor] | Tabulated:
        if float(self._warmup.control()) == 1.0:
            return self.inner.target
        return Tabulated(f"{getattr(self.inner.target, '__name__', str(self.inner.target))}, KL terms balanced")

    def weighed(self, tempering: Tempering, pair: Pair) -> Tempering:
        runs = pair.runs
        assert runs is not None

        def balanced(terms: Terms) -> Weights:
            if not runs:
                raise ObjectiveError(
                    f"KLBalancing reads the sizes of latents in a run of the guide, and {type(self.inner).__name__} "
                    "records none: draw by pplvm.particles.pair.draw_from_pair, or wrap another objective"
                )
            gamma = balancing_weights(terms, _sizes(runs[0][1], pair.nesting))
            beta = self._warmup.control()
            return {name: torch.where(beta < 1, each, torch.ones_like(each)) for name, each in gamma.items()}

        return tempering.gated(balanced)

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        runs = [] if pair.runs is None else pair.runs  # of one evaluation, shared with penalties around and within
        return super().estimate(replace(pair, runs=runs), *args, **kwargs)

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_terms_of_their_own(self, pair, args, kwargs)
        if len(drawn := latents_of(pair, args, kwargs)) < 2:
            named = f" only {next(iter(drawn))!r}" if drawn else " none"
            raise ObjectiveError(
                f"KLBalancing shares weight between latents, and the guide has{named}: leave it out, or use a program "
                "with several groups of latents"
            )
        return pair


def balancing_weights(terms: Terms, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The weight gamma of each latent, () each, of mean 1 and without gradient.

    Arguments:
        terms: log p - log q of each latent, or minus its KL divergence, (K, B), in nats.
        sizes: number of coordinates of each latent.

    Example:
        >>> terms = {"z_1": torch.tensor([[-3.99]]), "z_2": torch.tensor([[-1.99]])}
        >>> {name: float(each) for name, each in balancing_weights(terms, {"z_1": 1, "z_2": 2}).items()}
        {'z_1': 1.600000023841858, 'z_2': 0.4000000059604645}
    """
    with torch.no_grad():
        share = {name: (shared_mean(term.mean(0).abs().mean()) + LEAST) / sizes[name] for name, term in terms.items()}
        mean = torch.stack(list(share.values())).mean()
        return {name: each / mean for name, each in share.items()}


def _sizes(guide_trace: Trace | None, nesting: int) -> dict[str, int]:
    """The number of coordinates of one datum's value at each latent, nested plates counted."""
    assert guide_trace is not None
    return {name: _size(site, nesting) for name, site in latents(guide_trace).items()}


def _size(site: Site, nesting: int) -> int:
    shape = site["fn"].batch_shape
    return site["fn"].event_shape.numel() * math.prod(shape[max(len(shape) - nesting, 0) : -1])


def _warmup_within(objective: ELBO) -> Warmup | None:
    while isinstance(objective, Wrapper):
        if isinstance(objective, Warmup):
            return objective
        objective = objective.inner
    return None
