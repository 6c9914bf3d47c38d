"""Wake-sleep and reweighted wake-sleep: the guide learns from posterior weights, or from dreams of the model.

wake theta    sum_k v_k d log p(x, z_k)       z_k ~ q(z | x), v uniform or w~ = softmax(log w), per datum
wake phi      sum_k w~_k d log q(z_k | x)
sleep phi     mean_k d log q(z'_k | x'_k)     (z', x') ~ p(z, x)
"""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pplvm.bounds import elbo, iwae
from pplvm.objectives.detached import draw_detached, require_densities
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.independence import require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.targets import WAKE_SLEEP, Tabulated
from pplvm.particles.contract import ProgramError, latents
from pplvm.particles.dreams import dream, require_dreams
from pplvm.particles.pair import Pair, cuda_devices, sum_sites
from pplvm.particles.supports import narrower

__all__ = ["ReweightedWakeSleep", "WakeSleep"]


class WakeSleep(Objective):
    """Wake-sleep (Helmholtz machine): the model learns from the guide's draws, the guide from the model's dreams.

        gradient = mean_k [ d log p(x, z_k) + d log q(z'_k | x'_k) ],     z_k ~ q(z | x), (z'_k, x'_k) ~ p

    The value is the elbo, which the guide's part does not climb: a dream gives it KL(p(z | x') || q(z | x')).

    Arguments:
        num_particles: K, at least 1; draws and dreams per datum.

    Raises:
        ObjectiveError: the model has more than one observed site, or one that is not the data; a guide site is a
            Delta, masked or auxiliary.

    References:
        Hinton, Dayan, Frey and Neal, The wake-sleep algorithm for unsupervised neural networks, 1995
    """

    @property
    def target(self) -> Tabulated:
        return Tabulated("helmholtz")  # dreamt data are in no table

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = draw_detached(pair, self.num_particles, args, kwargs)
        surrogate = (drawn.log_p + _dreamt(pair, self.num_particles, args, kwargs)).mean(0)
        return Estimate(elbo(drawn.log_weights.detach()), surrogate, drawn.scale)

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_densities(self, pair, args, kwargs, "Pathwise")
        _require_dreams(self, pair, args, kwargs)
        return pair


class ReweightedWakeSleep(Objective):
    """Reweighted wake-sleep, with self-normalized importance weights for each datum.

        gradient = sum_k w~_k [ d log p(x, z_k) + insomnia d log q(z_k | x) ] + (1 - insomnia) sleep phi

    The value is iwae. Consistent for E_{p(z | x)}[d log p(x, z) + d log q(z | x)], biased at finite K.

    Arguments:
        num_particles: K, at least 2; draws, and dreams where there are any, per datum.
        insomnia: in [0, 1], the guide's share of wake phi; 1 never dreams, 0 is the sleep phase alone.

    Raises:
        ObjectiveError: num_particles is below 2, insomnia outside [0, 1]; a guide site is a Delta or masked; as
            `WakeSleep` where insomnia is below 1.

    References:
        Bornschein and Bengio, Reweighted wake-sleep, 2015, arXiv:1406.2751
        Le, Kosiorek, Siddharth, Teh and Wood, Revisiting reweighted wake-sleep for models with stochastic control
        flow, 2019, arXiv:1805.10469
    """

    least_particles = 2

    def __init__(self, num_particles: int = 2, insomnia: float = 1.0) -> None:
        super().__init__(num_particles)
        if not 0 <= insomnia <= 1:
            raise ObjectiveError(f"ReweightedWakeSleep: insomnia must be in [0, 1], got {insomnia}")
        self.insomnia = insomnia

    @property
    def target(self) -> Tabulated:
        return WAKE_SLEEP if self.insomnia == 1 else Tabulated(f"wake-sleep, insomnia {self.insomnia:g}")

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = draw_detached(pair, self.num_particles, args, kwargs)
        log_weights = drawn.log_weights.detach()
        surrogate = (log_weights.softmax(0) * (drawn.log_p + self.insomnia * drawn.log_q)).sum(0)
        if self.insomnia < 1:
            surrogate = surrogate + (1 - self.insomnia) * _dreamt(pair, self.num_particles, args, kwargs).mean(0)
        return Estimate(iwae(log_weights), surrogate, drawn.scale)

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_densities(self, pair, args, kwargs, "Pathwise")
        require_independent_data(self, pair, args, kwargs)
        if self.insomnia < 1:
            _require_dreams(self, pair, args, kwargs)
        return pair


def _dreamt(pair: Pair, num_particles: int, args: tuple, kwargs: dict) -> Tensor:
    """Log q of K dreams per datum, (K, B), computed as one batch of K B rows."""
    B = len(args[0])
    args = tuple(_repeated(argument, num_particles, B) for argument in args)
    kwargs = {name: _repeated(argument, num_particles, B) for name, argument in kwargs.items()}
    dreamt, data = dream(pair, args, kwargs)
    guide_trace = pair.again.run(poutine.replay(pair.guide, trace=dreamt), 1, (data, *args[1:]), kwargs)
    return sum_sites(pair.log_probs(guide_trace, 1)).reshape(num_particles, -1)


def _repeated(argument: Any, times: int, batch: int) -> Any:
    if times == 1 or not isinstance(argument, Tensor) or argument.shape[:1] != (batch,):
        return argument
    return argument.repeat(times, *[1] * (argument.dim() - 1))


def _require_dreams(objective: Objective, pair: Pair, args: tuple, kwargs: dict) -> None:
    """Refuse programs whose dreams the guide cannot take, apart from latents that the guide leaves out."""
    name = type(objective).__name__
    with torch.random.fork_rng(cuda_devices(args)):
        guide_trace = pair.run_guide(1, args, kwargs)
        model_trace = pair.run_model(1, guide_trace, args, kwargs)
    if not latents(guide_trace):
        raise ObjectiveError(f"{name}: the program has no latents to dream of: use Pathwise")
    if apart := sorted(latents(guide_trace).keys() - latents(model_trace).keys()):
        raise ObjectiveError(
            f"{name}: the guide draws {apart[0]!r}, which no dream of the model holds: remove the auxiliary site"
        )
    for narrow in narrower(latents(model_trace), latents(guide_trace)).values():
        raise ObjectiveError(
            f"{name}: {narrow}, so that it gives other dreams no density: draw it on all of the support, or use "
            "ReweightedWakeSleep(insomnia=1), which does not dream"
        )
    try:
        require_dreams(pair, args, kwargs)
    except ProgramError as fault:
        raise ObjectiveError(
            f"{name}: {fault}, or use ReweightedWakeSleep(insomnia=1), which does not dream"
        ) from fault
