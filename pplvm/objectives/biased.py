"""Biased rules for discrete sites, so named: f is differentiated at values that the program never draws.

    BiasedStraightThrough          slope of f at the draw, as if the draw moved like its mean
    BiasedStraightThroughGumbel    the same, as if it moved like its relaxation at temperature T
    BiasedConcrete                 slope of f at the relaxed draw, moving with it (Gumbel-softmax)

The value reported is the bound at hard draws, and the model's own gradient is taken there too.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from pplvm.objectives.control_variates import relaxable_only
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.objective import ObjectiveError
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.contract import Site

__all__ = ["BiasedConcrete", "BiasedStraightThrough", "BiasedStraightThroughGumbel"]


class _AsIfItMoved(Sitewise):
    """Follow the slope of f along values that move with the logits."""

    credits_each_datum = False  # the slope is that of all data's terms

    def refusal(self, site: Site) -> str | None:
        return relaxable_only(site)

    def surrogate(self, site: SiteDraw) -> Tensor:
        moving = self._moving(site, Discrete(site.fn), site.value)
        place = (moving if self._leaves_the_draw else site.value).detach().expand_as(site.value).requires_grad_()
        (slope,) = torch.autograd.grad(site.f_relaxed(place, lambda o, draw: self._later(site, o, draw)).sum(), place)
        return site.per_datum(slope * moving).mean(0)

    _leaves_the_draw = False

    @abstractmethod
    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        """What stands for a draw, differentiable in the logits."""

    def _later(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        moving = self._moving(site, family, draw)
        return draw + (moving - moving.detach())


class BiasedStraightThrough(_AsIfItMoved):
    """The straight-through estimator of a Bernoulli or categorical site: biased where f is not linear.

    Arguments:
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: on the first batch, a site without a path is neither Bernoulli nor OneHotCategorical.

    References:
        Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic neurons, 2013,
        arXiv:1308.3432
    """

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        return family.mean


class _Tempered(_AsIfItMoved):
    def __init__(self, temperature: float = 0.5, num_particles: int = 1) -> None:
        super().__init__(num_particles)
        if not temperature > 0:
            raise ObjectiveError(f"{type(self).__name__}: temperature must be positive, got {temperature}")
        self.temperature = temperature

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        noisy = family.noisy_logits(draw, site.uniform(draw)).detach()
        return family.relaxed(family.logits + (noisy - family.logits).detach(), self.temperature)


class BiasedStraightThroughGumbel(_Tempered):
    """Hard draws forward, their Gumbel-softmax relaxation backward.

    Arguments:
        temperature: T; the bias falls and the variance grows as it falls.
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: temperature is not positive; on the first batch, as `BiasedStraightThrough`.

    References:
        Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, 2017, arXiv:1611.01144
    """


class BiasedConcrete(_Tempered):
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

    _leaves_the_draw = True

    def _later(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        return family.relaxed(family.fresh(site.uniform(draw)), self.temperature)
