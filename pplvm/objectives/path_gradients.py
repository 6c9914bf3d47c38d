"""Path gradients: pathwise gradients without the guide's score (sticking the landing, DReG).

StickTheLanding                   the elbo's: the score's mean is zero, so nothing is put in its place
DoublyReparameterized             the elbo's, iwae's and renyi's: the score's mean is put back along the path
DoublyReparameterizedWakeSleep    the wake phase of the guide, all of it a score: moved onto the path

    E[g(z) d log q(z)] = E[dg/dz dz/dphi],     z = t(noise; phi)
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from pplvm.bounds import Bound, elbo, iwae, renyi_order
from pplvm.objectives.detached import require_densities, require_still_supports
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.pathwise import pathless, require_paths
from pplvm.objectives.stopped_guide import stopped_terms
from pplvm.objectives.targets import WAKE_SLEEP, Tabulated
from pplvm.particles.contract import latents, plate_scale, sample_sites
from pplvm.particles.factors import is_factor
from pplvm.particles.flows import fresh_copies
from pplvm.particles.pair import Pair, cuda_devices, sum_sites
from pplvm.particles.point_masses import is_point
from pplvm.particles.tempering import Tempering, latent_terms

__all__ = ["DoublyReparameterized", "DoublyReparameterizedWakeSleep", "StickTheLanding", "require_replayable"]


class _StoppedGuide(Objective):
    """Rules that evaluate the guide's density a second time at its draws, with parameters detached."""

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        with torch.random.fork_rng(cuda_devices(args)):
            drawn = pair.run_guide(1, args, kwargs)
            require_paths(self, pathless(drawn))
            require_replayable(self, pair, drawn, args, kwargs)
            require_still_supports(self, pair, args, kwargs)
            for site in latents(drawn).values():
                site["value"] = site["value"].detach()
            held = stopped_terms(self, pair, drawn, 1, args, kwargs)
        for name, log_q in held.items():
            if log_q.requires_grad:
                raise ObjectiveError(
                    f"{type(self).__name__} cannot hold guide site {name!r} still: it uses parameters of a module that "
                    "the program does not own, or of a distribution that was made before the guide ran; register the "
                    "module as an attribute of the program, and make the distribution in the guide"
                )
        return pair


class StickTheLanding(_StoppedGuide):
    """Sticking the landing: the pathwise elbo without the guide's score; zero variance where q is the posterior.

        gradient = d mean_k [ log p(x, z_k(phi)) - log q(z_k(phi); stop(phi)) ]

    Arguments:
        num_particles: K, at least 1; the gradient is the mean over particles.

    Raises:
        ObjectiveError: as `Pathwise`; or the guide is no method of the module that owns its parameters, or is
            random beyond its sites.

    References:
        Roeder, Wu and Duvenaud, Sticking the landing, 2017, arXiv:1703.09194
    """

    @property
    def target(self) -> Bound:
        return elbo

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        log_weights, _, scale = _path_gradient_weights(self, pair, args, kwargs)
        value = elbo(log_weights)
        return Estimate(value, value, scale)


class DoublyReparameterized(_StoppedGuide):
    """Doubly reparameterized gradients (DReG) of a K-particle bound, whose signal-to-noise does not fall with K.

        gradient of phi = sum_k (alpha v_k + (1 - alpha) v_k^2) d log w_k / dz_k dz_k / dphi
        gradient of theta = sum_k v_k d log p(x, z_k),     v = softmax((1 - alpha) log w)

    alpha is that of renyi: 0 for iwae, 1 for the elbo, where it is `StickTheLanding`, as it is at K = 1.

    Arguments:
        bound: `elbo`, `iwae` or `renyi(alpha)`.
        num_particles: K, at least 1.

    Raises:
        ObjectiveError: the bound is another; as `StickTheLanding`; a guide site is a Delta or masked.

    Example:
        >>> objective = DoublyReparameterized(iwae, num_particles=64)

    References:
        Tucker, Lawson, Gu and Maddison, Doubly reparameterized gradient estimators for Monte Carlo
        objectives, 2019, arXiv:1810.04152
    """

    def __init__(self, bound: Bound = iwae, num_particles: int = 1) -> None:
        super().__init__(num_particles)
        order = renyi_order(bound)
        if order is None:
            raise ObjectiveError(
                f"DoublyReparameterized knows elbo, iwae and renyi(alpha), not {getattr(bound, '__name__', bound)}: "
                "use Pathwise"
            )
        self.bound, self.order = bound, order

    @property
    def target(self) -> Bound:
        return self.bound

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_densities(self, pair, args, kwargs, "StickTheLanding or Pathwise")
        if self.num_particles > 1 and self.order != 1:  # else all weights are one
            require_independent_data(self, pair, args, kwargs)
        return pair

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        log_weights, reweigh, scale = _path_gradient_weights(self, pair, args, kwargs)
        alpha = self.order
        reweigh(alpha + (1 - alpha) * ((1 - alpha) * log_weights.detach()).softmax(0))
        value = self.bound(log_weights)
        return Estimate(value, value, scale)


class DoublyReparameterizedWakeSleep(_StoppedGuide):
    """Reweighted wake-sleep (wake-phi) with a doubly reparameterized guide gradient: same mean, other variance.

        gradient of phi = sum_k (w~_k - w~_k^2) d log w_k / dz_k dz_k / dphi,     w~ = softmax(log w)
        gradient of theta = sum_k w~_k d log p(x, z_k)

    Arguments:
        num_particles: K, at least 2.

    Raises:
        ObjectiveError: num_particles is below 2; as `DoublyReparameterized`.

    References:
        Tucker, Lawson, Gu and Maddison, Doubly reparameterized gradient estimators for Monte Carlo
        objectives, 2019, arXiv:1810.04152
    """

    least_particles = 2

    def __init__(self, num_particles: int = 2) -> None:
        super().__init__(num_particles)

    @property
    def target(self) -> Tabulated:
        return WAKE_SLEEP

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_densities(self, pair, args, kwargs, "StickTheLanding or Pathwise")
        require_independent_data(self, pair, args, kwargs)
        return pair

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        log_weights, reweigh, scale = _path_gradient_weights(self, pair, args, kwargs)
        reweigh(1 - log_weights.detach().softmax(0))
        value = iwae(log_weights)
        return Estimate(value, value, scale)


def require_replayable(
    objective: Objective, pair: Pair, drawn: Trace, args: tuple, kwargs: dict, role: Literal["guide", "model"] = "guide"
) -> None:
    """Refuse a program with randomness outside of its sites, whose draws have another density when replayed.

    Arguments:
        drawn: a trace of the half that `role` names.

    Raises:
        ObjectiveError: say, the guide drops units out.
    """
    drawn = fresh_copies(drawn)
    again = pair.again.run(poutine.replay(getattr(pair, role), trace=fresh_copies(drawn)), 1, args, kwargs)
    first, second = (pair.log_probs(trace, 1) for trace in (drawn, again))
    for name in first:
        if not torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ObjectiveError(
                f"{type(objective).__name__} runs the {role} twice, but it is random beyond its sites (dropout?): "
                f"site {name!r} had another density the second time; use Pathwise or LeaveOneOut, or program.eval()"
            )


def _path_gradient_weights(
    objective: Objective, pair: Pair, args: tuple, kwargs: dict
) -> tuple[Tensor, Callable[[Tensor], None], float]:
    """Log-weights whose log q depends on phi through the draws only, and a way to weight that gradient."""
    K = objective.num_particles
    guide_trace = pair.run_guide(K, args, kwargs)
    weights: list[Tensor] = []
    tapped = guide_trace.copy()
    for name, site in latents(guide_trace).items():
        tapped.nodes[name] = dict(
            site, value=_scale_gradient(site["value"], site["fn"].event_dim, weights, pair.nesting)
        )
    stopped = stopped_terms(objective, pair.again, fresh_copies(tapped), K, args, kwargs)
    model_trace = pair.run_model(K, tapped, args, kwargs)  # which hides in tapped what it masks itself
    pair.require_checked(model_trace, guide_trace, args, kwargs)
    log_p = pair.log_probs(model_trace, K)
    hidden = {name: scale_and_mask(term, mask=tapped.nodes[name]["mask"]) for name, term in stopped.items()}
    log_q = {name: pair.per_datum(term).expand(K, -1) for name, term in hidden.items()}
    log_q |= pair.log_probs(_without_score(guide_trace), K)
    joint = sum_sites(log_p)
    log_weights = joint - sum_sites(log_q, joint)
    if pair.tempering is not None:
        log_weights = pair.tempering.tempered(log_weights, latent_terms(log_p, log_q))
    scale = plate_scale([*sample_sites(model_trace).values(), *sample_sites(guide_trace).values()])
    return log_weights, lambda share: weights.append(_left_on_path(objective, pair.tempering, share)), scale


def _without_score(guide_trace: Trace) -> Trace:
    """Terms that are no density of a draw, of factors and point masses, whose scores have no mean of zero."""
    found = Trace()
    for name, site in sample_sites(guide_trace).items():
        if is_factor(site) or is_point(site["fn"]):
            found.nodes[name] = site
    return found


def _left_on_path(objective: Objective, tempering: Tempering | None, share: Tensor) -> Tensor:
    """The share of a pathwise slope that remains beside the guide's score, corrected for tempering."""
    if tempering is None:
        return share
    if tempering.shared is None:
        raise ObjectiveError(
            f"{type(objective).__name__} moves the score of all latents onto the path as one, so they cannot be "
            "weighed one by one: give a single beta, or use Pathwise"
        )
    return share + (1 - tempering.shared) * (1 - share)


def _scale_gradient(value: Tensor, event_dim: int, weights: list[Tensor], nesting: int) -> Tensor:
    """The same draw, whose incoming gradient is multiplied by (K, B) weights, if any are set by then."""
    if not value.requires_grad:
        return value
    value = value.view_as(value)

    def weigh(gradient: Tensor) -> Tensor:
        if not weights or len(weights[0]) == 1:
            return gradient
        K, B = weights[0].shape
        return gradient * weights[0].reshape(K, *[1] * (nesting - 1), B, *[1] * event_dim)

    value.register_hook(weigh)
    return value
