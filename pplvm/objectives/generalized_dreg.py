"""Generalized doubly reparameterized gradients (GDReG), for the latents of the model too.

E_q[g d log p(z)] = E_q[(dg/dz + g d log(q/p)/dz) dz~/dtheta]

z~_l = loc_l(z~ of its parents) + scale_l(z~ of its parents) stop(noise_l),     equal to z_l in value
"""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import sum_rightmost
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Laplace, Normal

from pplvm.bounds import Bound, iwae
from pplvm.objectives.detached import require_densities
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.path_gradients import require_replayable
from pplvm.objectives.pathwise import pathless, require_paths
from pplvm.particles.contract import Site, latents, plate_scale, sample_sites
from pplvm.particles.enumeration import coordinates
from pplvm.particles.masks import is_masked
from pplvm.particles.pair import Pair, cuda_devices, sum_sites
from pplvm.particles.supports import narrower

__all__ = ["GeneralizedDoublyReparameterized"]


class GeneralizedDoublyReparameterized(Objective):
    """GDReG: the importance-weighted bound of a hierarchy without any score but that of the data.

        gradient of phi = sum_k w~_k^2 d log w_k / dz_k dz_k / dphi,     w~ = softmax(log w)
        gradient of theta = sum_k w~_k d log p(x | z~_k) - w~_k^2 d log w_k / dz_k dz~_k / dtheta

    where d log p(x | z~) goes along z~ as well. Costs a second run of the model and of the guide.

    Arguments:
        num_particles: K, at least 1.

    Raises:
        ObjectiveError: a latent of the model is neither Normal nor Laplace, or masked; a guide site has no path, is
            a Delta, masked, or on a part of the model's support; model or guide is random beyond its sites.

    References:
        Bauer and Mnih, Generalized doubly reparameterized gradient estimators, 2021, arXiv:2101.11046
    """

    @property
    def target(self) -> Bound:
        return iwae

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        K = self.num_particles
        guide_trace = pair.run_guide(K, args, kwargs)
        log_weights, slopes = _slopes(pair, guide_trace, K, args, kwargs)
        model_trace = pair.again.run(_OnItsPath()(poutine.replay(pair.model, trace=guide_trace)), K, args, kwargs)
        terms, drawn = pair.log_probs(model_trace, K), latents(model_trace)
        data = sum_sites({name: term for name, term in terms.items() if name not in drawn})
        surrogate = log_weights.softmax(0) * data  # (K, B)
        for name, site in latents(guide_trace).items():
            offset = site["value"] - drawn[name]["value"] if name in drawn else site["value"]
            surrogate = surrogate + pair.per_datum(sum_rightmost(slopes[name] * offset, site["fn"].event_dim))
        return Estimate(iwae(log_weights), surrogate.sum(0), plate_scale(list(sample_sites(model_trace).values())))

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_densities(self, pair, args, kwargs, "Pathwise(iwae)")
        with torch.random.fork_rng(cuda_devices(args)):
            drawn = pair.run_guide(1, args, kwargs)
            if not latents(drawn):
                raise ObjectiveError(f"{type(self).__name__}: the program has no latents to move: use Pathwise")
            require_paths(self, pathless(drawn))
            require_replayable(self, pair, drawn, args, kwargs)
            above = pair.run_model(1, drawn, args, kwargs)
            require_replayable(self, pair, above, args, kwargs, role="model")
        for name, site in latents(above).items():
            _require_location_and_scale(name, site)
        for narrow in narrower(latents(above), latents(drawn)).values():
            raise ObjectiveError(
                f"{type(self).__name__}: {narrow}, over whose edge it would move the model's draws: use "
                "DoublyReparameterized"
            )
        if self.num_particles > 1:
            require_independent_data(self, pair, args, kwargs)
        return pair


class _OnItsPath(Messenger):
    """A Pyro messenger that reparameterizes each fixed draw as the model's own sampler would."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        single = coordinates(msg["fn"])
        noise = ((msg["value"] - single.loc) / single.scale).detach()
        msg["value"] = single.loc + single.scale * noise


def _slopes(
    pair: Pair, guide_trace: Trace, num_particles: int, args: tuple, kwargs: dict
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-weights (K, B), and w~^2 d log w / dz of each latent in the shape of z, with parameters fixed."""
    with torch.enable_grad():
        held = guide_trace.copy()
        values = {name: site["value"].detach().requires_grad_() for name, site in latents(guide_trace).items()}
        for name, value in values.items():
            held.nodes[name] = dict(guide_trace.nodes[name], value=value)
        runs = [pair.run_model(num_particles, held, args, kwargs)]
        pair.require_checked(runs[0], guide_trace, args, kwargs)
        runs.append(pair.again.run(poutine.replay(pair.guide, trace=held), num_particles, args, kwargs))
        log_p, log_q = (sum_sites(pair.log_probs(trace, num_particles)) for trace in runs)
        log_weights = (log_p - log_q).detach()
        slopes = torch.autograd.grad((log_weights.softmax(0).square() * (log_p - log_q)).sum(), list(values.values()))
    return log_weights, dict(zip(values, slopes, strict=True))


def _require_location_and_scale(name: str, site: Site) -> None:
    single = coordinates(site["fn"])
    if is_masked(site) or not isinstance(single, Normal | Laplace):
        what = "is masked" if is_masked(site) else f"({type(single).__name__}) is neither Normal nor Laplace"
        raise ObjectiveError(
            "GeneralizedDoublyReparameterized moves the model's draws by their location and scale, but model site "
            f"{name!r} {what}: use DoublyReparameterized"
        )
