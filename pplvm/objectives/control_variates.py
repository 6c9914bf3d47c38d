"""Score-function rules with control variates that evaluate the program again: MuProp, REBAR, RELAX, double CV.

    MuProp                  f(b) - f(mu) - f'(mu) (b - mu), the removed part put back through the mean mu
    REBAR                   f(b) - c(z~), c = eta f(relaxed(z)), put back along the paths of z and of z~ given b
    RELAX                   the same with c = eta f(relaxed(z)) + a learned function of z
    DoubleControlVariate    leave-one-out of f(b_k) + alpha f'(b_j) (b_k - mu), the slopes from the other draws

What is learned (`control`) descends the second moment of the gradient with respect to the site's logits.
"""

import torch
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.objectives.continuity import require_continuous
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.site_draw import SiteDraw, family_of
from pplvm.objectives.site_rule import SiteRule, is_learning, less_variance
from pplvm.objectives.sitewise import OfRule, Sitewise
from pplvm.particles.contract import Site

__all__ = [
    "DoubleControlVariate",
    "DoubleControlVariateRule",
    "MuProp",
    "MuPropRule",
    "REBAR",
    "REBARRule",
    "RELAX",
    "RELAXRule",
    "relaxable_only",
]


class MuProp(Sitewise):
    """MuProp: the first-order Taylor expansion of f at the mean as control variate.

    Arguments:
        linear: with the slope; without it (SimpleMuProp) f(mu) alone is the baseline.
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: on the first batch, a site without a path is neither Bernoulli nor OneHotCategorical.

    References:
        Gu, Levine, Sutskever and Mnih, MuProp: unbiased backpropagation for stochastic neural networks, 2016,
        arXiv:1511.05176
        Tucker et al., REBAR, 2017, arXiv:1703.07370 (SimpleMuProp)
    """

    linear = OfRule()

    def __init__(self, linear: bool = True, num_particles: int = 1) -> None:
        super().__init__(MuPropRule(linear), elbo, num_particles)


class MuPropRule(SiteRule):
    """The score of a draw, weighed by what f has beyond its expansion at the mean."""

    def __init__(self, linear: bool = True) -> None:
        self.linear = linear

    def refusal(self, site: Site) -> str | None:
        return relaxable_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        family = Discrete(site.fn)
        mean = family.mean.detach().expand_as(site.value).requires_grad_()
        at_mean = site.f_relaxed(mean, lambda later, draw: later.mean.expand_as(draw))
        if not self.linear:
            return ((site.f - at_mean.detach()) * site.log_q).mean(0)
        (slope,) = torch.autograd.grad(at_mean.sum(), mean)
        expansion = at_mean.detach() + site.per_datum(slope * (site.value - mean.detach()))
        return ((site.f - expansion) * site.log_q + site.per_datum(slope * family.mean)).mean(0)


class REBAR(Sitewise):
    """REBAR: the relaxed program as control variate at coupled noise; temperature and coefficient are learned.

    Later sites are relaxed too wherever they depend on a relaxed one.

    Arguments:
        temperature: T at the start.
        coefficient: eta at the start; at 0 the rule is the plain score function.
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: temperature is not positive; on the first batch, a site without a path is neither
            Bernoulli nor OneHotCategorical, or f jumps between its states.

    Example:
        >>> sorted(name for name, _ in REBAR().control.named_parameters())
        ['coefficient', 'log_temperature']

    References:
        Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, REBAR: low-variance, unbiased gradient estimates for
        discrete latent variable models, 2017, arXiv:1703.07370
    """

    def __init__(self, temperature: float = 0.5, coefficient: float = 1.0, num_particles: int = 1) -> None:
        super().__init__(REBARRule(temperature, coefficient), elbo, num_particles)


class REBARRule(SiteRule):
    """The score of a draw, weighed by what f has beyond that of its relaxation."""

    control: "_Relaxation"

    def __init__(self, temperature: float = 0.5, coefficient: float = 1.0, network: nn.Module | None = None) -> None:
        self.control = _Relaxation(temperature, coefficient, network)

    def refusal(self, site: Site) -> str | None:
        return relaxable_only(site)

    def inspect(self, site: SiteDraw) -> None:
        require_continuous(self, site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        return _coupled(site, self.control)


class RELAX(Sitewise):
    """RELAX: REBAR with a learned function of the noisy logits added to its control variate.

    The function is a sum over coordinates of one small network, so it fits sites of any size; it starts at
    zero, that is at REBAR.

    Arguments:
        network: maps (..., 2), a coordinate's relaxed value and logit, to (..., 1).
        temperature, coefficient, num_particles: as `REBAR`.

    Raises:
        ObjectiveError: as `REBAR`.

    References:
        Grathwohl, Choi, Wu, Roeder and Duvenaud, Backpropagation through the void, 2018, arXiv:1711.00123
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        temperature: float = 0.5,
        coefficient: float = 1.0,
        num_particles: int = 1,
    ) -> None:
        own = _at_zero() if network is None else network
        super().__init__(RELAXRule(temperature, coefficient, own), elbo, num_particles)


class RELAXRule(REBARRule):
    """The same with a learned function beside f of the relaxation."""


class DoubleControlVariate(Sitewise):
    """Leave-one-out with the slopes of f at the other draws as a second control variate of learned weight.

    The derivation holds for any K from 2 up.

    Arguments:
        num_particles: K, at least 2; costs 2 K evaluations for one site.
        coefficient: alpha at the start; at 0 the rule is leave-one-out.

    Raises:
        ObjectiveError: num_particles is below 2; on the first batch, a site without a path is neither Bernoulli
            nor OneHotCategorical.

    References:
        Titsias and Shi, Double control variates for gradient estimation in discrete latent variable models,
        2022, arXiv:2111.05300
    """

    least_particles = 2

    def __init__(self, num_particles: int = 2, coefficient: float = 0.0) -> None:
        super().__init__(DoubleControlVariateRule(coefficient), elbo, num_particles)


class DoubleControlVariateRule(SiteRule):
    """Leave-one-out, with the slopes at the other draws."""

    least_particles = 2
    control: "_Coefficient"

    def __init__(self, coefficient: float = 0.0) -> None:
        self.control = _Coefficient(coefficient)

    def refusal(self, site: Site) -> str | None:
        return relaxable_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        family, K = Discrete(site.fn), site.num_particles
        draw = site.value.clone().requires_grad_()
        (slope,) = torch.autograd.grad(site.f_relaxed(draw, lambda later, kept: kept).sum(), draw)
        slope = (slope.sum(0) - slope) / (K - 1)  # of the others
        linear = site.per_datum(slope * (site.value - family.mean.detach()))  # (K, B)
        score, signal = family.score(site.value), site.f

        def surrogate(logits: Tensor, weight: Tensor) -> Tensor:
            whole = signal + weight * linear
            credit = (whole - (whole.sum(0) - whole) / (K - 1)) / K
            put_back = weight * slope * family.at(logits).mean / K
            return site.per_datum(site.spread(credit) * score * logits - put_back)

        def second_moment() -> Tensor:
            logits = family.logits.detach().expand_as(site.value).requires_grad_()
            value = surrogate(logits, self.control.coefficient).sum()
            (g,) = torch.autograd.grad(value, logits, create_graph=True)
            return g.sum(0).square().sum()  # the draws work together, so their gradients are judged together

        found = surrogate(family.logits, self.control.coefficient.detach()).sum(0)
        return found + less_variance(self.control, second_moment, site)


class _Coefficient(nn.Module):
    def __init__(self, coefficient: float) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.tensor(float(coefficient)))


class _Relaxation(nn.Module):
    """The learned temperature and coefficient of REBAR and RELAX."""

    def __init__(self, temperature: float, coefficient: float, network: nn.Module | None = None) -> None:
        super().__init__()
        if not temperature > 0:
            raise ObjectiveError(f"the temperature of a relaxation must be positive, got {temperature}")
        self.log_temperature = nn.Parameter(torch.tensor(float(temperature)).log())
        self.coefficient = nn.Parameter(torch.tensor(float(coefficient)))
        self.network = network


def _at_zero(hidden_size: int = 16) -> nn.Module:
    last = nn.Linear(hidden_size, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(2, hidden_size), nn.Tanh(), last)


def _coupled(site: SiteDraw, control: _Relaxation) -> Tensor:
    """(f(b) - c(z)) d log q(b) + c'(z) (dz - dz~), z and z~ the noisy logits, z~ conditional on b."""
    family = Discrete(site.fn)
    logits = family.logits.detach().expand_as(site.value).requires_grad_()
    given_draw = family.at(logits).noisy_logits(site.value, site.uniform(site.value))
    noisy = given_draw.detach().requires_grad_()
    c = _control_variate(site, family, control, noisy)
    learns = is_learning(control)
    (slope,) = torch.autograd.grad(c.sum(), noisy, create_graph=learns)
    (of_draw,) = torch.autograd.grad(given_draw, logits, slope, create_graph=learns)
    g = family.centred(site.spread(site.f - c) * family.score(site.value) + slope - of_draw)  # (K, ...)
    found = site.per_datum(g.detach() * family.logits).mean(0)
    return found + less_variance(control, lambda: (g / len(g)).square().sum(), site)


def _control_variate(site: SiteDraw, family: Discrete, control: _Relaxation, noisy: Tensor) -> Tensor:
    """The control variate c at noisy logits (K, ...), differentiable by them and by its parameters: (K, B)."""
    temperature = control.log_temperature.exp()
    soft = family.relaxed(noisy, temperature)

    def later(other: Discrete, draw: Tensor) -> Tensor:
        return other.relaxed(other.fresh(site.uniform(draw)), temperature)

    c = control.coefficient * site.f_relaxed(soft, later)
    if control.network is not None:
        features = torch.stack([soft, family.logits.detach().expand_as(soft)], -1)
        c = c + site.per_datum(control.network(features).squeeze(-1))
    return c


def relaxable_only(site: Site) -> str | None:
    if family_of(site) == "Categorical":
        return "it reads f between the states, of which an index has none: draw a OneHotCategorical"
    known = ("Bernoulli", "OneHotCategorical")
    return None if family_of(site) in known else "it is for Bernoulli and OneHotCategorical sites"
