"""Objectives that estimate log p(x) itself: by enumeration, or by draws from the prior."""

from collections.abc import Callable
from typing import Any

from pplvm.bounds import Bound, elbo, iwae
from pplvm.objectives.detached import Detached
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.pathwise import pathless, require_paths
from pplvm.objectives.refused_sites import refuse_random_lower_bounds
from pplvm.objectives.targets import LOG_EVIDENCE, Tabulated
from pplvm.particles.contract import latents, plate_scale, sample_sites
from pplvm.particles.enumeration import enumerate_model, is_enumerable
from pplvm.particles.pair import Pair, inspect_pair, pair_up, sum_sites
from pplvm.particles.vectorization_check import raise_program_error, why_states_interact

__all__ = ["Exact", "PriorSampling"]


class Exact(Objective):
    """Enumerate all discrete latents of the model; log p(x) itself where there are no others.

        value = mean_k [ log sum_d p(x, d, z_k) - log q(z_k | x) ],     z_k ~ q, the continuous latents

    The guide holds the continuous latents only, and is not run if there are none.

    Arguments:
        num_particles: K, draws of the continuous latents.

    Raises:
        ObjectiveError: the model has no discrete latent; a datum's draws change other data's densities.
        ProgramError: there are too many states, or they are mixed; a continuous latent is not in the guide.

    Example:
        >>> from pplvm.objectives.objective import Loss
        >>> from pplvm.programs.mixture import MixtureOfGaussians
        >>> import torch
        >>> loss = Loss(Exact(), MixtureOfGaussians())
        >>> loss(torch.zeros(5, 2)).backward()
    """

    @property
    def is_elbo(self) -> bool:
        return False  # states are summed out within a logarithm, whatever the target

    @property
    def target(self) -> Bound | Tabulated:
        pair = self._pairs.last
        return LOG_EVIDENCE if pair is None or pair.guide is None else elbo

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        K = self.num_particles if pair.guide is not None else 1
        drawn = pair.run_guide(K, args, kwargs) if pair.guide is not None else None
        log_weights, model_trace = enumerate_model(pair, drawn, K, args, kwargs)
        if drawn is not None:
            require_paths(self, pathless(drawn))
            log_weights = log_weights - sum_sites(pair.log_probs(drawn, K))
        value = elbo(log_weights)
        return Estimate(value, value, plate_scale(list(sample_sites(model_trace).values())))

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict) -> Pair:
        model_trace, _, _ = inspect_pair(model, None, args, kwargs)
        discrete = {name for name, site in latents(model_trace).items() if is_enumerable(site)}
        if not discrete:
            raise ObjectiveError("Exact: the model has no discrete latent to sum out: use Pathwise or LeaveOneOut")
        rest = latents(model_trace).keys() - discrete
        pair = pair_up(model, guide if rest else None, args, kwargs, summed_out=frozenset(discrete))
        refuse_random_lower_bounds("Exact", self.is_elbo, pair, args, kwargs)
        raise_program_error(why_states_interact(pair, args, kwargs, self.num_particles if rest else 1))
        require_independent_data(self, pair, args, kwargs, discrete)
        return pair


class PriorSampling(Objective):
    """Monte Carlo estimate of log p(x) by draws from the prior, a fixed proposal.

        value = log mean_k p(x | z_k),     gradient = sum_k w~_k d log p(x, z_k),     z_k ~ p(z)

    Consistent but biased at finite K, ever more so as the prior rarely meets the posterior.

    Arguments:
        num_particles: K, at least 1.

    References:
        Owen, Monte Carlo theory, methods and examples, 2013, chapter 9 (self-normalized importance sampling)
    """

    uses_guide = False

    @property
    def target(self) -> Tabulated:
        return LOG_EVIDENCE

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        with Detached():
            trace = pair.run_model(self.num_particles, None, args, kwargs)
        pair.require_checked(trace, None, args, kwargs)
        log_p = pair.log_probs(trace, self.num_particles)
        joint = sum_sites(log_p)
        prior = sum_sites({name: log_p[name] for name in latents(trace)}, joint)
        value = iwae(joint - prior.detach())
        return Estimate(value, value, plate_scale(list(sample_sites(trace).values())))
