"""ReinMax, a biased gradient rule of second order for Bernoulli and categorical sites.

The exact slope of E f by logit k compares f at every pair of states, and Heun's (the trapezoidal) rule replaces each
difference by slopes g at both ends:

    d E f / d logit_k = p_k sum_j p_j (f(e_k) - f(e_j)),     f(e_k) - f(e_j) ~ (g(e_k) + g(e_j)) . (e_k - e_j) / 2

Half of the terms have their slope at e_j, half at e_k; both are means over one draw b of

    (p_k (g_k - g . b) + b_k (g . b - g . p)) / 2,     g = g(b)

which is unbiased wherever f is quadratic in each coordinate. Straight-through is Euler's rule, p_k (g_k - g . p).
"""

from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.biased import AsIfItMoved
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.sitewise import Sitewise

__all__ = ["BiasedReinMax", "BiasedReinMaxRule"]


class BiasedReinMax(Sitewise):
    """The ReinMax estimator: slopes of f at the draw, exact to second order in f.

    Unbiased wherever f is at most quadratic in each coordinate, the others held still.

    Arguments:
        num_particles: K, independent draws, at least 1; costs 2 K evaluations for one site.

    Raises:
        ObjectiveError: on the first batch, a site without a path is neither Bernoulli nor OneHotCategorical.

    Example:
        >>> objective = BiasedReinMax(num_particles=4)

    References:
        Liu, Dong, Liu, Yu and Gao, Bridging discrete and backpropagation: straight-through and beyond, 2023,
        arXiv:2304.08612
    """

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(BiasedReinMaxRule(), elbo, num_particles)


class BiasedReinMaxRule(AsIfItMoved):
    """The slope at the draw, as if the draw moved by Heun's rule."""

    def _moving(self, site: SiteDraw, family: Discrete, draw: Tensor) -> Tensor:
        p, logits = family.mean.detach(), family.logits
        if family.is_binary:
            return (p * (1 - draw) + draw * (1 - p)) * logits / 2
        of_draw, of_mean = ((part * logits).sum(-1, keepdim=True) for part in (draw, p))
        return (p * (logits - of_draw) + draw * (of_draw - of_mean)) / 2
