"""Biased gradient rules for discrete sites: straight-through, Gumbel-softmax, Concrete; their names say so.

    BiasedStraightThrough          slope of f at the draw, as if the draw moved like its mean
    BiasedStraightThroughGumbel    the same, as if it moved like its relaxation at temperature T
    BiasedConcrete                 slope of f at the relaxed draw, moving with it (Gumbel-softmax)
    BiasedPathwise                 slope of any bound at the draw, along the gradient that its distribution gives it

The value reported is the bound at hard draws, and the model's own gradient is taken there too.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.control_variates import relaxable_only
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.site_rule import SiteRule
from pplvm.objectives.sitewise import OfRule, Sitewise
from pplvm.particles.contract import Site, latents
from pplvm.particles.pair import Pair, Particles, cuda_devices
from pplvm.particles.reparameterized_sites import is_reparameterized

__all__ = [
    "AsIfItMoved",
    "BiasedConcrete",
    "BiasedConcreteRule",
    "BiasedPathwise",
    "BiasedStraightThrough",
    "BiasedStraightThroughGumbel",
    "BiasedStraightThroughGumbelRule",
    "BiasedStraightThroughRule",
]


class AsIfItMoved(SiteRule):
    """Differentiate f along surrogate values that depend smoothly on the logits."""

    credits_each_datum = False  # the slope is that of all data's terms

    def refusal(self, site: Site) -> str | None:
        return relaxable_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        moving = self._moving(site, Discrete(site.fn), site.value)
        place = (moving if self._leaves_the_draw else site.value).detach().expand_as(site.value).requires_grad_()
        f = self._f(site, place, lambda later, draw: self._later(site, later, draw))
        (slope,) = torch.autograd.grad(f.sum(), place)
        return site.per_datum(slope * moving).mean(0)

    _leaves_the_draw = False

    def _f(self, site: SiteDraw, place: Tensor, later: Callable[[Discrete, Tensor], Tensor]) -> Tensor:
        """f at values of the site (K, ...), differentiable by them: (K, B)."""
        return site.f_relaxed(place, later)

    @abstractmethod
    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        """The surrogate of a draw, differentiable by the logits."""

    def _later(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        moving = self._moving(site, family, draw)
        return draw + (moving - moving.detach())


class BiasedStraightThrough(Sitewise):
    """The straight-through estimator of a Bernoulli or categorical site: biased where f is not linear.

    Arguments:
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: on the first batch, a site without a path is neither Bernoulli nor OneHotCategorical.

    References:
        Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic neurons, 2013,
        arXiv:1308.3432
    """

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(BiasedStraightThroughRule(), elbo, num_particles)


class BiasedStraightThroughRule(AsIfItMoved):
    """The slope at the draw, as if the draw moved like its mean."""

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        return family.mean


class BiasedStraightThroughGumbelRule(AsIfItMoved):
    """The slope at the draw, as if the draw moved like its relaxation."""

    def __init__(self, temperature: float = 0.5) -> None:
        if not temperature > 0:
            raise ObjectiveError(f"{self.name}: temperature must be positive, got {temperature}")
        self.temperature = temperature

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        noisy = family.noisy_logits(draw, site.uniform(draw)).detach()
        return family.relaxed(family.logits + (noisy - family.logits).detach(), self.temperature)


class BiasedStraightThroughGumbel(Sitewise):
    """Straight-through Gumbel-softmax: hard draws forward, their relaxation backward.

    Arguments:
        temperature: T; the bias falls and the variance grows as it falls.
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: temperature is not positive; on the first batch, as `BiasedStraightThrough`.

    References:
        Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, 2017, arXiv:1611.01144
    """

    temperature = OfRule()

    def __init__(self, temperature: float = 0.5, num_particles: int = 1) -> None:
        super().__init__(BiasedStraightThroughGumbelRule(temperature), elbo, num_particles)


class BiasedConcrete(Sitewise):
    """The pathwise gradient of the relaxed program: Concrete, or Gumbel-softmax.

    Arguments:
        temperature: T; the bias falls and the variance grows as it falls.
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: temperature is not positive; on the first batch, as `BiasedStraightThrough`.

    References:
        Maddison, Mnih and Teh, The concrete distribution, 2017, arXiv:1611.00712
        Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, 2017, arXiv:1611.01144
    """

    temperature = OfRule()

    def __init__(self, temperature: float = 0.5, num_particles: int = 1) -> None:
        super().__init__(BiasedConcreteRule(temperature), elbo, num_particles)


class BiasedConcreteRule(BiasedStraightThroughGumbelRule):
    """The slope at the relaxed draw, which moves."""

    _leaves_the_draw = True

    def _later(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        return family.relaxed(family.fresh(site.uniform(draw)), self.temperature)


class BiasedPathwise(Pathwise):
    """Differentiate the bound along any gradient that a draw carries, even a discrete one's.

    For guides with a straight-through distribution: one with a discrete support and an `rsample` that gives its draws
    a gradient, such as `OneHotCategoricalStraightThrough` of torch, or one of your own. Everywhere else such a draw
    counts as what it is, one without a path.

    Arguments:
        bound: maps log-weights (K, B) to one value per datum (B,).
        num_particles: K, at least 1.

    Raises:
        ObjectiveError: on the first batch, the guide draws no site straight through, or one without any gradient.

    Example:
        >>> objective = BiasedPathwise(num_particles=4)

    References:
        Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic neurons, 2013,
        arXiv:1308.3432
    """

    def takes(self, site: Site) -> bool:
        return bool(site["fn"].has_rsample) and not is_reparameterized(site["fn"])

    def draw(self, pair: Pair, *args: Any, **kwargs: Any) -> Particles:
        return super().draw(replace(pair, straight_through=True), *args, **kwargs)

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            drawn = latents(pair.run_guide(1, args, kwargs)).values()
        if not any(site["fn"].has_rsample and not is_reparameterized(site["fn"]) for site in drawn):
            raise ObjectiveError(
                "BiasedPathwise follows straight-through distributions, of which the guide draws none: use Pathwise, "
                "or BiasedStraightThrough for a Bernoulli or OneHotCategorical site"
            )
        return pair
