"""Gumbel-Rao, a biased gradient rule: straight-through Gumbel-softmax with its noise averaged out given the draw."""

from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.biased import BiasedStraightThroughGumbelRule
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.sitewise import OfRule, Sitewise

__all__ = ["BiasedGumbelRao", "BiasedGumbelRaoRule"]


class BiasedGumbelRao(Sitewise):
    """Straight-through Gumbel-softmax, the relaxation's Jacobian averaged over noise given the hard draw.

        gradient = g(b) . mean_m d relaxed(z_m),     z_m ~ p(z | b),  m = 1..M

    The mean is that of `BiasedStraightThroughGumbel`, the variance at most its own: f is run once, and what of the
    noise does not change the draw is averaged away (Rao-Blackwellization).

    Arguments:
        temperature: T; the bias falls and the variance grows as it falls.
        noise_draws: M, of the noise given each draw, at least 1; 1 is `BiasedStraightThroughGumbel`.
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site, whatever M is.

    Raises:
        ObjectiveError: temperature is not positive, noise_draws no integer of at least 1; on the first batch, a site
            without a path is neither Bernoulli nor OneHotCategorical.

    Example:
        >>> objective = BiasedGumbelRao(temperature=0.1, noise_draws=100)

    References:
        Paulus, Maddison and Krause, Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator, 2021,
        arXiv:2010.04838
    """

    temperature, noise_draws = OfRule(), OfRule()

    def __init__(self, temperature: float = 0.5, noise_draws: int = 10, num_particles: int = 1) -> None:
        super().__init__(BiasedGumbelRaoRule(temperature, noise_draws), elbo, num_particles)


class BiasedGumbelRaoRule(BiasedStraightThroughGumbelRule):
    """The slope at the draw, as if the draw moved like the mean of its relaxations over noise that leads to it."""

    def __init__(self, temperature: float = 0.5, noise_draws: int = 10) -> None:
        super().__init__(temperature)
        if isinstance(noise_draws, bool) or not isinstance(noise_draws, int) or noise_draws < 1:
            raise ObjectiveError(f"{self.name}: noise_draws must be an integer of at least 1, got {noise_draws!r}")
        self.noise_draws = noise_draws

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        return super()._moving(site, family, draw.expand(self.noise_draws, *draw.shape)).mean(0)
