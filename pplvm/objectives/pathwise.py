"""Pathwise (reparameterization) gradients, z = t(noise; phi), for guides without discrete sites.

Pathwise      gradient of bound(w) through everything
AnalyticKL    the same for the elbo, each KL in closed form where torch knows it
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Categorical, OneHotCategorical, kl_divergence

from pplvm.bounds import Bound, elbo
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.masks import is_masked, same_mask, unmasked
from pplvm.particles.pair import Pair, Particles
from pplvm.particles.point_masses import is_point
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.supports import innermost

__all__ = ["AnalyticKL", "Pathwise", "closed_forms", "pathless", "require_paths"]


class Pathwise(Objective):
    """The pathwise gradient of a bound (the reparameterization trick).

        gradient = d bound(w)

    With `iwae` and a guide that has nothing to learn it is importance sampling of log p(x).

    Arguments:
        bound: maps log-weights (K, B) to one value per datum (B,).
        num_particles: K, at least 1.

    Raises:
        ObjectiveError: the guide draws a site without a path (a discrete one, say) that depends on
            parameters, whose gradient would be silently missed.

    Example:
        >>> from pplvm.bounds import iwae
        >>> objective = Pathwise(iwae, num_particles=64)

    References:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114
        Rezende, Mohamed and Wierstra, Stochastic backpropagation, 2014, arXiv:1401.4082
    """

    leaves_paths = True

    def __init__(self, bound: Bound = elbo, num_particles: int = 1) -> None:
        super().__init__(num_particles)
        self.bound = bound

    @property
    def target(self) -> Bound:
        return self.bound

    def takes(self, site: Site) -> bool:
        return False

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = self.draw(pair, *args, **kwargs)
        require_paths(self, drawn.score_sites)
        value = self.bound(drawn.log_weights)
        return Estimate(value, value, drawn.scale)


class AnalyticKL(Objective):
    """The elbo with each site's KL(q || p) in closed form where torch knows one, else by draws.

        gradient = d mean_k [ sum of log p at observed sites - sum of KL terms ]

    A closed form stands for a site only if all that its prior depends on is drawn before it in the guide.

    Arguments:
        num_particles: K, at least 1.

    Raises:
        ObjectiveError: as `Pathwise`.

    References:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114, appendix B
    """

    @property
    def target(self) -> Bound:
        return elbo

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = self.draw(replace(pair, tempering=None), *args, **kwargs)
        require_paths(self, drawn.score_sites)
        log_weights, closed = drawn.log_weights, {}
        for name, divergence in closed_forms(drawn).items():
            drawn_term = drawn.log_p_sites[name] - drawn.log_q_sites[name]
            closed[name] = pair.per_datum(divergence)
            log_weights = log_weights - drawn_term - closed[name]
        if pair.tempering is not None:
            terms = drawn.latent_terms | {name: -divergence for name, divergence in closed.items()}
            log_weights = pair.tempering.tempered(log_weights, terms)
        value = elbo(log_weights)
        return Estimate(value, value, drawn.scale)


def require_paths(objective: Objective, score_sites: Sequence[str]) -> None:
    if score_sites:
        names = " and ".join(repr(name) for name in score_sites)
        raise ObjectiveError(
            f"{type(objective).__name__} differentiates along the path of a draw, but guide site {names} has none, so "
            "its gradient would be silently biased: use LeaveOneOut or ScoreFunction"
        )


def pathless(guide_trace: Trace) -> list[str]:
    """The terms of a guide that are not reparameterized: discrete draws, and factors that say so."""
    return [name for name, site in sample_sites(guide_trace).items() if not is_reparameterized(site["fn"])]


def closed_forms(drawn: Particles) -> dict[str, Tensor]:
    """KL(q || p) per latent, where torch knows it and the prior depends on nothing drawn later in the
    guide.

    A point mass has none: torch's leaves out a Delta's log_density, and its draw is known anyway: the drawn term is
    exact.
    """
    in_model, in_guide = list(latents(drawn.model_trace)), list(latents(drawn.guide_trace))
    known = {}
    for number, name in enumerate(in_guide):
        if name not in in_model:  # auxiliary
            continue
        p, q = drawn.model_trace.nodes[name], drawn.guide_trace.nodes[name]
        drawn_later = set(in_model[: in_model.index(name)]) - set(in_guide[:number])
        if drawn_later or not same_mask(p, q) or is_point(q["fn"]):
            continue
        if _categories(p["fn"]) != _categories(q["fn"]):  # of which torch's KL needs as many
            continue
        of_q, of_p = (site["fn"] if is_masked(site) else unmasked(site["fn"]) for site in (q, p))
        shape = torch.broadcast_shapes(of_q.batch_shape, of_p.batch_shape)  # torch's Bernoullis want one
        try:
            known[name] = scale_and_mask(kl_divergence(of_q.expand(shape), of_p.expand(shape)), mask=p["mask"])
        except NotImplementedError:
            continue
    return known


def _categories(fn: Any) -> int | None:
    """How many categories a distribution has, None if it is not categorical."""
    inner = innermost(fn)
    return inner.param_shape[-1] if isinstance(inner, Categorical | OneHotCategorical) else None
