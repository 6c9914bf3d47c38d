"""Measure-valued derivatives: the derivative of an expectation as a difference of two expectations.

    Normal, mean      (E f(m + s R) - E f(m - s R)) / (s sqrt(2 pi)),       R ~ Rayleigh(1)
    Normal, scale     (E f(m + s M) - E f(m + s N)) / s,                    M ~ double-sided Maxwell, N ~ Normal
    Gamma, rate       (E f(x) - E f(x')) a / r,                             x ~ Gamma(a, r), x' ~ Gamma(a + 1, r)
    Gamma, shape      E (f(x) - f(s x)) / (a (1 - s)),                      s ~ Beta(a, 1)
    Poisson, rate     E f(k + 1) - E f(k)
    Bernoulli, logit  p (1 - p) (E f(1) - E f(0))
    categorical       p_v (E f(v) - E f(drawn)),                            for the logit of category v

Both expectations of a pair share their noise. The shape of a Gamma follows from
log x - digamma(a) = int_0^inf ((1 + t)^-a - exp(-x t)) / t dt, under which Gamma(a, 1) becomes Gamma(a, 1 + t),
with s = 1 / (1 + t).

References:
    Mohamed, Rosca, Figurnov and Mnih, Monte Carlo gradient estimation in machine learning, 2020,
    arXiv:1906.10652, section 6 (all but the Gamma's shape)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.site_draw import SiteDraw, family_of
from pplvm.objectives.site_rule import SiteRule
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.contract import Site
from pplvm.particles.enumeration import coordinates
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = ["MeasureValued", "MeasureValuedRule"]


class MeasureValued(Sitewise):
    """The elbo's gradient by measure-valued derivatives, of reparameterized and other sites.

    Costs, for n coordinates: 4 n evaluations a Normal (2 n for each of mean and scale that learn), 2 n a Gamma, n
    a Poisson, 2 n a Bernoulli, n C a categorical, and one for the draw itself.

    Arguments:
        num_particles: K, independent draws, at least 1.

    Raises:
        ObjectiveError: on the first batch, a site without a path is of none of these families.

    References:
        Pflug, Sampling derivatives of probabilities, 1989
        Mohamed, Rosca, Figurnov and Mnih, Monte Carlo gradient estimation in machine learning, 2020,
        arXiv:1906.10652
    """

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(MeasureValuedRule(), elbo, num_particles)


class MeasureValuedRule(SiteRule):
    """The derivative of an expectation as a difference of two, coordinate by coordinate."""

    many_at_once = True

    def claims(self, site: Site) -> bool:
        return family_of(site) in RULES or not is_reparameterized(site["fn"])

    def refusal(self, site: Site) -> str | None:
        known = ", ".join(RULES)
        return None if family_of(site) in RULES else f"its derivative is known for {known} sites only"

    def surrogate(self, site: SiteDraw) -> Tensor:
        return RULES[family_of(site.site)](site).mean(0)


def _normal(site: SiteDraw) -> Tensor:
    single = coordinates(site.fn)
    loc, scale = single.loc.detach(), single.scale.detach()
    total = site.drawn.log_p.new_zeros(site.drawn.log_p.shape)
    if single.loc.requires_grad:
        step = scale * (-2 * site.uniform(site.value).log()).sqrt()
        slope = _difference(site, loc + step, loc - step) / (scale * math.sqrt(2 * math.pi))
        total = total + site.per_datum(slope * single.loc)
    if single.scale.requires_grad:
        size = torch.randn(3, *site.value.shape, dtype=scale.dtype, device=scale.device).norm(dim=0)
        maxwell = size * (site.uniform(size) - 0.5).sign()
        slope = _difference(site, loc + scale * maxwell, loc + scale * maxwell * site.uniform(size)) / scale
        total = total + site.per_datum(slope * single.scale)
    return total


def _gamma(site: SiteDraw) -> Tensor:
    single = coordinates(site.fn)
    shape, rate = single.concentration.detach(), single.rate.detach()
    total = site.drawn.log_p.new_zeros(site.drawn.log_p.shape)
    if single.rate.requires_grad:
        more = site.value - site.uniform(site.value).log() / rate  # Gamma(a + 1) = Gamma(a) + Gamma(1)
        slope = -shape / rate * _increase(site, more)
        total = total + site.per_datum(slope * single.rate)
    if single.concentration.requires_grad:
        log_s = site.uniform(site.value).log() / shape
        less = (log_s.exp() * site.value).clamp(min=torch.finfo(rate.dtype).tiny)
        slope = _increase(site, less) / (shape * torch.expm1(log_s))
        total = total + site.per_datum(slope * single.concentration)
    return total


def _poisson(site: SiteDraw) -> Tensor:
    return site.per_datum(_increase(site, site.value + 1) * coordinates(site.fn).rate)


def _bernoulli(site: SiteDraw) -> Tensor:
    family = Discrete(site.fn)
    gain = _difference(site, torch.ones_like(site.value), torch.zeros_like(site.value))
    return site.per_datum(gain * family.mean)


def _categorical(site: SiteDraw) -> Tensor:
    family = Discrete(site.fn)
    C, own = family.logits.shape[-1], 0 if family.is_index else 1
    states = torch.eye(C, dtype=site.value.dtype, device=site.value.device)
    states = torch.arange(C, dtype=site.value.dtype, device=site.value.device) if family.is_index else states
    places = site.value.dim() - own
    each = states.reshape(C, *[1] * places, *states.shape[1:]).expand(C, *site.value.shape)
    f = site.collected(site.f_at(site.with_each(each, own)), own)  # (C, K, nested..., B, event...)
    event_dim = site.fn.event_dim - own
    gain = f - site.spread(site.f, event_dim)
    gain = gain.movedim(0, -1).masked_fill(family.mean == 0, 0.0)  # of a state ruled out f is infinite
    return site.per_datum((gain * family.mean).sum(-1), event_dim)


def _difference(site: SiteDraw, up: Tensor, down: Tensor) -> Tensor:
    """f with each coordinate in turn at `up` minus f with it at `down`: (K, nested..., B, event...)."""
    both = torch.stack([up.expand_as(site.value), down.expand_as(site.value)])
    above, below = site.collected(site.f_at(site.with_each(both)))
    return above - below


def _increase(site: SiteDraw, changed: Tensor) -> Tensor:
    """f with each coordinate in turn at `changed` minus f of the draw: (K, nested..., B, event...)."""
    return site.collected(site.f_at(site.with_each(changed.unsqueeze(0))))[0] - site.spread(site.f)


RULES: dict[str, Callable[[SiteDraw], Tensor]] = {
    "Normal": _normal,
    "Gamma": _gamma,
    "Poisson": _poisson,
    "Bernoulli": _bernoulli,
    "OneHotCategorical": _categorical,
    "Categorical": _categorical,
}
