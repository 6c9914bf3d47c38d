"""Wrappers that weight the KL terms in the gradient, not in the reported bound: Beta, FreeBits, Warmup.

    log w = log p(x | z) + sum_l weight_l (log p(z_l) - log q(z_l)),     the draws and their score as ever

Beta        weight_l = beta_l
FreeBits    weight_l = 1 where KL_l > nats, else 0
Warmup      weight_l = min(1, t / steps)

They nest, and their weights multiply: `Warmup(Beta(LeaveOneOut(elbo, 4), 0.5), 1000)`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.distributed.collectives import shared_mean
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.objectives.tempering_wrapper import (
    TemperingWrapper,
    latents_of,
    name_of,
    require_terms_of_their_own,
)
from pplvm.particles.pair import Pair
from pplvm.particles.tempering import Tempering, Terms, Weights

__all__ = ["Beta", "FreeBits", "Warmup"]


class _NamingSites(TemperingWrapper):
    """A wrapper with a number for all latents, or for each named one."""

    def __init__(self, objective: ELBO, number: float | Mapping[str, float], what: str) -> None:
        super().__init__(objective)
        numbers = number if isinstance(number, Mapping) else {"": number}
        for name, each in numbers.items():
            if not (math.isfinite(each) and each >= 0):
                of = f" of {name!r}" if name else ""
                raise ObjectiveError(f"{type(self).__name__}: {what}{of} must be finite and not negative, got {each}")
        self.number = dict(number) if isinstance(number, Mapping) else number

    def number_of(self, name: str, unnamed: float) -> float:
        """The number of a latent, or that of all latents that a mapping leaves out."""
        return self.number.get(name, unnamed) if isinstance(self.number, dict) else self.number

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        if isinstance(self.number, dict):
            known = latents_of(pair, args, kwargs)
            for name in self.number.keys() - known.keys():
                raise ObjectiveError(
                    f"{type(self).__name__} names {name!r}, but the guide's latents are {', '.join(known)}"
                )
            require_terms_of_their_own(self, pair, args, kwargs)
        return pair


class Beta(_NamingSites):
    """Weight each latent's KL term by a constant (beta-VAE), for any bound and gradient rule.

        elbo:          E_q[ log p(x | z) + sum_l beta_l (log p(z_l) - log q(z_l)) ]
        other bounds:  the same tempering of every log-weight inside the bound

    The value stays the bound itself.

    Arguments:
        objective: any of `pplvm.objectives` that estimates a bound.
        beta: for all latents, or by name, 1 for the others; not negative.

    Raises:
        ObjectiveError: beta is negative or not finite; the objective estimates no bound; on the first batch, a
            name is no latent, a latent is auxiliary and others are named, or the objective cannot weigh latents one
            by one, or at all.

    Example:
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> beta_vae = Beta(AnalyticKL(), 4.0)

    References:
        Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed and Lerchner, beta-VAE: learning basic visual
        concepts with a constrained variational framework, 2017
    """

    def __init__(self, objective: ELBO, beta: float | Mapping[str, float]) -> None:
        super().__init__(objective, beta, "beta")

    @property
    def target(self) -> Callable[[Tensor], Tensor] | Tabulated:
        beta, own = self._constants
        if not isinstance(self.inner.target, Tabulated):
            return _times(self.inner.target, beta, own)
        weights = ([f"beta {beta:g}"] if beta != 1 else []) + [f"{name} times {each:g}" for name, each in own.items()]
        return Tabulated(", ".join([self.inner.target.name, *weights]))

    def weighed(self, tempering: Tempering, pair: Pair) -> Tempering:
        return tempering.times(*self._constants)

    @property
    def _constants(self) -> tuple[float, dict[str, float]]:
        return (1.0, self.number) if isinstance(self.number, dict) else (self.number, {})


class FreeBits(_NamingSites):
    """Free bits: each latent's KL term costs nothing below a floor, against posterior collapse.

        E_q[ log p(x | z) ] - sum_l max(nats_l, KL_l),     KL_l the mean over particles and batch (and ranks)

    The floor is applied after the mean over the batch, by the draw itself: the term's gradient is there or not. Where
    the objective knows a KL in closed form (`AnalyticKL`) that decides.

    Arguments:
        objective: any of `pplvm.objectives` that estimates the elbo.
        nats: the floor of every latent, or by name, none for the others; not negative.

    Raises:
        ObjectiveError: nats is negative or not finite; the objective estimates another bound or none; on the
            first batch, a name is no latent, or a latent is auxiliary.

    Example:
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> objective = FreeBits(AnalyticKL(), nats=0.5)

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improving variational inference with inverse
        autoregressive flow, 2016, arXiv:1606.04934, appendix C.8
    """

    def __init__(self, objective: ELBO, nats: float | Mapping[str, float]) -> None:
        super().__init__(objective, nats, "nats")
        if self.bound is not elbo:
            raise ObjectiveError(
                f"FreeBits floors KL terms, of which {name_of(self.bound)} has none: wrap an elbo, or Beta"
            )

    @property
    def target(self) -> Tabulated:
        return Tabulated("elbo, free bits")  # the draw decides which terms count: the gradient of no expectation

    def weighed(self, tempering: Tempering, pair: Pair) -> Tempering:
        return tempering.gated(self._is_above)

    def _is_above(self, terms: Terms) -> Weights:
        floors = {name: self.number_of(name, -math.inf) for name in terms}
        KL = {name: shared_mean(-term.mean()) for name, term in terms.items()}
        return {name: (KL[name] > floors[name]).to(term.dtype) for name, term in terms.items()}

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_terms_of_their_own(self, pair, args, kwargs)
        return pair


class Warmup(TemperingWrapper):
    """KL annealing: raise the weight of all KL terms from zero to one over a number of training evaluations.

        beta_t = min(1, t / steps),     t = training evaluations so far

    An evaluation counts in train mode with gradients enabled. The count is part of the `Loss` and its `state_dict`.

    Arguments:
        objective: any of `pplvm.objectives` that estimates a bound, `Beta` and `FreeBits` among them.
        steps: at least 1.

    Raises:
        ObjectiveError: steps is no integer of at least 1; the objective estimates no bound.

    Example:
        >>> from pplvm.objectives.score_function import LeaveOneOut
        >>> objective = Warmup(Beta(LeaveOneOut(elbo, 4), 0.5), steps=1000)

    References:
        Bowman, Vilnis, Vinyals, Dai, Jozefowicz and Bengio, Generating sentences from a continuous space, 2016,
        arXiv:1511.06349
        Sonderby, Raiko, Maaloe, Sonderby and Winther, Ladder variational autoencoders, 2016, arXiv:1602.02282
    """

    control: "WarmupClock"

    def __init__(self, objective: ELBO, steps: int) -> None:
        super().__init__(objective)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ObjectiveError(f"Warmup: steps must be an integer of at least 1, got {steps!r}")
        self.control = WarmupClock(steps, self.inner.control)

    @property
    def target(self) -> Callable[[Tensor], Tensor] | Tabulated:
        return _times(self.inner.target, float(self.control()), {})

    def weighed(self, tempering: Tempering, pair: Pair) -> Tempering:
        return tempering.times(self.control())

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        found = super().estimate(pair, *args, **kwargs)
        if torch.is_grad_enabled():
            self.control.observe()
        return found


class WarmupClock(nn.Module):
    """The present weight of a warm-up, beside the control variate of the wrapped objective."""

    evaluations: Tensor

    def __init__(self, steps: int, inner: nn.Module | None) -> None:
        super().__init__()
        self.steps, self.inner = steps, inner
        self.register_buffer("evaluations", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        return (self.evaluations / self.steps).clamp(max=1.0)

    def observe(self) -> None:
        if self.training:
            self.evaluations.add_(1)


def _times(target: Any, beta: float, own: Mapping[str, float]) -> Any:
    """The target with further weights; unchanged if it is no bound."""
    if isinstance(target, Tabulated):
        return target
    return (target if isinstance(target, TemperedBound) else TemperedBound(target)).times(beta, own)
