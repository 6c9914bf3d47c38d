"""Antithetic gradient estimators for discrete sites: ARM, DisARM (U2G) and ARMS.

    u ~ U(0, 1),  b = 1[u > 1 - p],  b~ = 1[u < p],  p = sigmoid(logit)

    ARM       (f(b) - f(b~)) (u - 1/2)
    DisARM    (f(b) - f(b~)) (b - b~) sigmoid(|logit|) / 2           its mean given b and b~
    ARMS      sum_c (f(b_c) - mean f) (b_c - p) / ((n - 1) (1 - r)),  n draws of pairwise correlation r < 0

All coordinates of a site are paired at once. Of a bound of K draws, f(b) - f(b~) is what the bound loses when
draw k alone is replaced by its partner. The noise u is drawn given b, so the program draws b as ever.
"""

import torch
from torch import Tensor

from pplvm.bounds import Bound, elbo
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.site_draw import SiteDraw, family_of
from pplvm.objectives.site_rule import SiteRule
from pplvm.objectives.sitewise import OfRule, Sitewise
from pplvm.particles.contract import Site

__all__ = ["ARM", "ARMS", "ARMRule", "ARMSRule", "DisARM", "DisARMRule"]


class ARM(Sitewise):
    """The augment-REINFORCE-merge estimator (ARM) of Bernoulli sites.

    Arguments:
        bound: maps log-weights (K, B) to one value per datum (B,).
        num_particles: K, pairs, at least 1; costs 2 K evaluations for one site, K more for each further one.

    Raises:
        ObjectiveError: on the first batch, a site without a path is no Bernoulli.

    References:
        Yin and Zhou, ARM: augment-REINFORCE-merge gradient for stochastic binary networks, 2019,
        arXiv:1807.11143
    """

    def __init__(self, bound: Bound = elbo, num_particles: int = 1) -> None:
        super().__init__(ARMRule(), bound, num_particles)


class ARMRule(SiteRule):
    """Each draw against a partner, weighed by the noise that they share."""

    any_bound = True

    def refusal(self, site: Site) -> str | None:
        return _bernoulli_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        family, u, _ = _uniform_given_draw(site)
        partner = _below(u, family.mean)
        gain = site.spread(lost_without(site, partner))
        return site.per_datum((gain * (u - 0.5)).detach() * family.logits).sum(0)


class DisARM(Sitewise):
    """The DisARM (U2G) estimator: ARM with the noise averaged out given the two draws.

    A categorical site is drawn as a chain of yes or no, category by category, and each link is paired.

    Arguments:
        bound: maps log-weights (K, B) to one value per datum (B,).
        num_particles: K, pairs, at least 1; costs 2 K evaluations for one site, K more for each further one.

    Raises:
        ObjectiveError: on the first batch, a site without a path is neither Bernoulli nor categorical.

    Example:
        >>> from pplvm.bounds import iwae
        >>> multi_sample = DisARM(iwae, num_particles=5)

    References:
        Dong, Mnih and Tucker, DisARM: an antithetic gradient estimator for binary latent variables, 2020,
        arXiv:2006.10680
        Yin, Ho, Yan, Qian and Zhou, Probabilistic best subset selection via gradient-based optimization, 2020
        (U2G), arXiv:2006.06448
        Dong, Mnih and Tucker, Coupled gradient estimators for discrete latent variables, 2021,
        arXiv:2106.08056 (categorical, stick-breaking)
    """

    def __init__(self, bound: Bound = elbo, num_particles: int = 1) -> None:
        super().__init__(DisARMRule(), bound, num_particles)


class DisARMRule(SiteRule):
    """Each draw against a partner, the noise that they share averaged out."""

    any_bound = True

    def refusal(self, site: Site) -> str | None:
        return _discrete_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        family = Discrete(site.fn)
        return self._binary(site) if family.is_binary else self._categorical(site, family)

    def _binary(self, site: SiteDraw) -> Tensor:
        family, u, b = _uniform_given_draw(site)
        partner = _below(u, family.mean)
        gain = site.spread(lost_without(site, partner)) / 2
        slope = gain * (b - partner) * family.logits.abs().sigmoid()
        return site.per_datum(slope.detach() * family.logits).sum(0)

    def _categorical(self, site: SiteDraw, family: Discrete) -> Tensor:
        code = family.encoded(site.value)
        sticks = _stick_logits(family.logits)  # (..., C - 1)
        event = site.fn.event_dim + family.is_index
        p = sticks.sigmoid().detach()
        before = code.cumsum(-1)[..., :-1] - code[..., :-1]  # 1 after the category drawn
        v = site.uniform(before)
        u = torch.where(before > 0, v, torch.where(code[..., :-1] > 0, 1 - p * v, (1 - p) * v))
        b, partner = (u > 1 - p).to(v), (u < p).to(v)
        other = _first(partner)
        gain = site.spread(lost_without(site, family.decoded(other)), event) / 2
        asked = (1 - before).maximum(1 - (other.cumsum(-1) - other)[..., :-1])  # a link that neither reached is noise
        slope = gain * asked * (b - partner) * sticks.abs().sigmoid()
        return site.per_datum(slope.detach() * sticks, event).sum(0)


class ARMS(Sitewise):
    """The ARMS estimator: REINFORCE with several antithetic draws from a Dirichlet copula; for Bernoulli sites.

    Arguments:
        draws: n, of each site, that work against each other, at least 2; 2 gives `DisARM`.
        num_particles: K, independent groups, at least 1; costs n K evaluations for one site.

    Raises:
        ObjectiveError: draws is no integer of at least 2; on the first batch, a site without a path is no
            Bernoulli.

    References:
        Dimitriev and Zhou, ARMS: antithetic-REINFORCE-multi-sample gradient for binary variables, 2021,
        arXiv:2105.14141
    """

    draws = OfRule()

    def __init__(self, draws: int = 4, num_particles: int = 1) -> None:
        super().__init__(ARMSRule(draws), elbo, num_particles)


class ARMSRule(SiteRule):
    """Each draw against several others of a Dirichlet copula."""

    def __init__(self, draws: int = 4) -> None:
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 2:
            raise ObjectiveError(f"ARMS: draws must be an integer of at least 2, got {draws!r}")
        self.draws, self.many_at_once = draws, draws > 2

    def refusal(self, site: Site) -> str | None:
        return _bernoulli_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        family, n = Discrete(site.fn), self.draws
        p = family.mean.detach()
        rare = (-family.logits.detach().abs()).sigmoid()  # chance of the rarer value: the copula is antithetic for it
        is_one = family.logits < 0  # whether that value is one
        happened = (site.value > 0) == is_one
        v = site.uniform(site.value)
        u = torch.where(happened, rare * v, 1 - (1 - rare) * v)
        share = 1 - u ** (1 / (n - 1))  # of the Dirichlet, this draw's
        parts = -torch.stack([site.uniform(v) for _ in range(n - 1)]).log()  # (n - 1, K, ...)
        parts = (1 - share) * parts / parts.sum(0)
        events = (1 - parts) ** (n - 1) < rare
        others = (events == is_one).to(site.value)  # (n - 1, K, ...)
        f = torch.cat([site.f.unsqueeze(0), site.f_at(others)])  # (n, K, B)
        draws = torch.cat([site.value.unsqueeze(0), others])
        both = (2 * rare ** (1 / (n - 1)) - 1).clamp(min=0) ** (n - 1)
        boost = rare * (1 - rare) / (rare - both).clamp(min=torch.finfo(p.dtype).tiny)  # 1 / (1 - r)
        slope = (site.spread(f - f.mean(0)) * (draws - p)).sum(0) / (n - 1) * boost
        return site.per_datum(slope.detach() * family.logits).mean(0)


def lost_without(site: SiteDraw, partner: Tensor) -> Tensor:
    """How much the bound falls when draw k alone is replaced by its antithetic partner, (K, B)."""
    K = site.num_particles
    if site.bound is elbo:
        return (site.f - site.f_at(partner.unsqueeze(0))[0]) / K
    log_weights = site.drawn.log_weights.detach()
    itself = torch.eye(K, dtype=torch.bool, device=log_weights.device).unsqueeze(-1)  # (K, K, 1)
    replaced = torch.where(itself, site.log_weights_at(partner.unsqueeze(0))[0], log_weights.unsqueeze(1))
    return site.bound(log_weights) - site.bound(replaced)


def _uniform_given_draw(site: SiteDraw) -> tuple[Discrete, Tensor, Tensor]:
    """The family, the uniform noise u with b = 1[u > 1 - p], and the draw b, (K, ...)."""
    family, b = Discrete(site.fn), site.value
    p, v = family.mean.detach(), site.uniform(site.value)
    return family, torch.where(b > 0, 1 - p * v, (1 - p) * v), b


def _below(u: Tensor, p: Tensor) -> Tensor:
    return (u < p).to(u)


def _stick_logits(logits: Tensor) -> Tensor:
    """Logits of the stick-breaking probabilities of all categories but the last: (..., C) to (..., C - 1)."""
    rest = logits.flip(-1).logcumsumexp(-1).flip(-1)
    return (logits - rest.roll(-1, -1))[..., :-1]


def _first(sticks: Tensor) -> Tensor:
    """One-hot of the first one, of the last category if there is none: (..., C - 1) to (..., C)."""
    ended = torch.cat([sticks, torch.ones_like(sticks[..., :1])], -1).cumsum(-1).clamp(max=1)
    return ended.diff(dim=-1, prepend=torch.zeros_like(ended[..., :1]))


def _bernoulli_only(site: Site) -> str | None:
    return None if family_of(site) == "Bernoulli" else "it pairs yes with no, so it is for Bernoulli sites"


def _discrete_only(site: Site) -> str | None:
    known = ("Bernoulli", "OneHotCategorical", "Categorical")
    return None if family_of(site) in known else "it is for Bernoulli and categorical sites"
