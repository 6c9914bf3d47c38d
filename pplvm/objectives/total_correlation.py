"""The total correlation of the aggregate posterior, weighted beside the other two parts of the KL (beta-TCVAE).

KL = index-code information + total correlation + dimension-wise KL, the mean over data n of

index-code information    E[ log q(z | n) - log q(z) ]
total correlation         E[ log q(z) - sum_d log q(z_d) ]
dimension-wise KL         E[ sum_d log q(z_d) - log p(z) ]

log q(z) = log sum_j q(z | n_j) / (N M) over a minibatch of M among N data, z from one of them; likewise q(z_d)
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from pplvm.bounds import elbo
from pplvm.distributed.collectives import is_synchronized_forward
from pplvm.distributed.ranks import size
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.wrapper import Wrapper, unwrapped
from pplvm.particles.contract import Site, latents
from pplvm.particles.masks import is_masked
from pplvm.particles.pair import Pair
from pplvm.particles.tempering import Tempering

__all__ = ["KLParts", "TotalCorrelation", "kl_parts"]


class KLParts(NamedTuple):
    """The three parts of log q(z | n) - log p(z), each (K, M), in nats."""

    index_code: Tensor
    total_correlation: Tensor
    dimension_wise: Tensor


class TotalCorrelation(Wrapper):
    """Weight the three parts of the KL of one latent site, the total correlation above all (beta-TCVAE).

        E_q[ log p(x | z) ] - alpha index-code information - beta total correlation - gamma dimension-wise KL

    With all weights one it is the objective within. The parts enter the surrogate alone, so that the value stays the
    bound itself. They are estimated by draws from the minibatch (the module's equation); the number of data N
    shifts them by constants and leaves the gradient as it is. The estimate of log q(z) is biased: in expectation too
    high by what the datum's own 1/M is beyond 1/N, and exact (but for the constant) if the batch is all the data. Ranks
    each take their own minibatch. A weight of outer `Warmup`, `Beta` or `FreeBits` multiplies all three parts.

    Arguments:
        objective: `Pathwise()`, `AnalyticKL()`, or a wrapper of these.
        beta: of the total correlation; not negative, like the others.
        alpha: of the index-code information.
        gamma: of the dimension-wise KL.
        num_data: N, for the parts that are reported; without it they are those of M data in all, 1/M^2.

    Raises:
        ObjectiveError: a weight is negative or not finite; the objective is another; on any batch, the guide has
            several latents, or a latent whose coordinates are not independent given x, or hides some by a mask; several
            processes share the batch, of which each would mix its own guides alone.

    Example:
        >>> objective = TotalCorrelation(AnalyticKL(), beta=6.0)

    References:
        Chen, Li, Grosse and Duvenaud, Isolating sources of disentanglement in variational autoencoders, 2018,
        arXiv:1802.04942 (equation 2, appendix C.1)
        Hoffman and Johnson, ELBO surgery, 2016
    """

    control: "PartMeans"

    def __init__(
        self,
        objective: ELBO,
        beta: float,
        alpha: float = 1.0,
        gamma: float = 1.0,
        num_data: int | None = None,
    ) -> None:
        inner = unwrapped(objective) if isinstance(objective, Wrapper) else objective
        if not isinstance(inner, AnalyticKL) and not (isinstance(inner, Pathwise) and inner.bound is elbo):
            raise ObjectiveError(
                "TotalCorrelation follows the paths of the elbo's draws through the whole minibatch, which "
                f"{type(inner).__name__} does not: wrap Pathwise() or AnalyticKL()"
            )
        for name, weight in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ObjectiveError(f"TotalCorrelation: {name} must be finite and not negative, got {weight!r}")
        if num_data is not None and num_data < 1:
            raise ObjectiveError(f"TotalCorrelation: num_data must be at least 1, got {num_data!r}")
        super().__init__(objective)
        self.weights, self.num_data = KLParts(alpha, beta, gamma), num_data
        self.control = PartMeans(objective.control)

    @property
    def target(self) -> Any:
        """The target within where all weights are one; else one that depends on the whole minibatch."""
        if set(self.weights) == {1}:
            return self.inner.target
        named = zip(("index-code information", "total correlation", "dimension-wise KL"), self.weights, strict=True)
        within = self.inner.target
        within = within.name if isinstance(within, Tabulated) else within.__name__
        return Tabulated(", ".join([within, *(f"{name} times {weight:g}" for name, weight in named if weight != 1)]))

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        if set(self.weights) == {1}:
            return self.inner.estimate(pair, *args, **kwargs)
        if size() > 1 and is_synchronized_forward():
            raise ObjectiveError(
                "TotalCorrelation mixes the guides of the whole batch, and each of several processes has a part of it: "
                "start one process"
            )
        tempering = pair.tempering or Tempering()
        runs = [] if pair.runs is None else pair.runs  # of one evaluation, shared with penalties around and within
        found = self.inner.estimate(replace(pair, tempering=tempering, runs=runs), *args, **kwargs)
        model_trace, guide_trace = runs[0]
        assert guide_trace is not None  # the objectives within all run it
        name, site = _only_latent(latents(guide_trace), pair.nesting)
        log_p = pair.log_probs(model_trace, self.num_particles)[name]  # (K, M)
        parts = kl_parts(site["fn"], site["value"], log_p, self.num_data)
        if torch.is_grad_enabled():
            self.control.observe(parts)
        extra = sum((weight - 1) * part.mean(0) for weight, part in zip(self.weights, parts, strict=True))
        extra = tempering.draws[0].weights[name] * extra  # (M,)
        return replace(found, surrogate=found.surrogate - (extra - extra.detach()))  # of value zero: no rounding

    def reported(self) -> dict[str, Tensor]:
        """The mean of each part over the last training batch, (); none where all weights are one."""
        if set(self.weights) == {1}:
            return super().reported()
        return super().reported() | dict(zip(REPORTED, self.control.means.clone(), strict=True))


REPORTED = ("index-code information, minibatch", "total correlation, minibatch", "dimension-wise KL, minibatch")


def kl_parts(q: Distribution, z: Tensor, log_p: Tensor, num_data: int | None = None) -> KLParts:
    """The parts of log q(z | n) - log p(z) at draws from a minibatch, by its minibatch-weighted aggregate posterior.

    Arguments:
        q: of which z are draws, one coordinate or `Independent` ones, (M, *event) or (K, M, *event)
        z: (M, *event) or (K, M, *event).
        log_p: the density of the prior, (K, M).
        num_data: N; M unless given.

    Example:
        >>> q = Independent(torch.distributions.Normal(torch.eye(3), 0.5), 1)
        >>> z = q.sample()
        >>> parts = kl_parts(q, z, torch.zeros(1, 3))
        >>> torch.allclose(sum(parts)[0], q.log_prob(z))
        True
    """
    coordinates, event = _coordinates(q), q.event_shape
    M = z.shape[-1 - len(event)]
    each = z.reshape(-1, M, *event).movedim(1, 0).unsqueeze(2)  # (M, K, 1, *event)
    log_q = coordinates.log_prob(each)
    log_q = log_q.reshape(*log_q.shape[:3], -1)  # (M, K, M, Z): draw of i, particle, density of j, coordinate
    own = log_q.diagonal(dim1=0, dim2=2).sum(1).expand(log_p.shape)  # (K, M)
    log_NM = math.log(M * (M if num_data is None else num_data))
    joint = (log_q.sum(3).logsumexp(2) - log_NM).mT  # (K, M)
    marginals = (log_q.logsumexp(2) - log_NM).sum(2).mT  # (K, M)
    return KLParts(own - joint, joint - marginals, marginals - log_p)


class PartMeans(nn.Module):
    """The mean of each part over the last training batch, beside the wrapped objective's control variate."""

    means: Tensor

    def __init__(self, inner: nn.Module | None) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("means", torch.full((len(REPORTED),), math.nan))

    @torch.no_grad()
    def observe(self, parts: KLParts) -> None:
        """Record the parts of one evaluation."""
        if self.training:
            self.means.copy_(torch.stack([part.mean().to(self.means) for part in parts]))


def _only_latent(found: dict[str, Site], nesting: int) -> tuple[str, Site]:
    """The guide's latent, if there is one and its coordinates are independent given x.

    Raises:
        ObjectiveError: it is not so.
    """
    if len(found) != 1:
        raise ObjectiveError(
            f"TotalCorrelation splits the KL of one latent, and the guide has {', '.join(found) or 'none'}: the "
            "aggregate posterior of several, each drawn given others, is no mixture of their densities; use Beta"
        )
    ((name, site),) = found.items()
    if nesting != 1 or is_masked(site):
        raise ObjectiveError(f"TotalCorrelation needs latent {name!r} in the batch's plate alone and without masks")
    _coordinates(site["fn"], name)
    return name, site


def _coordinates(q: Distribution, name: str = "z") -> Distribution:
    """The distribution of independent coordinates within `.to_event()`."""
    inner = q.base_dist if isinstance(q, Independent) else q
    if inner.event_shape:
        raise ObjectiveError(
            f"TotalCorrelation needs the density of each coordinate of latent {name!r} by itself, and its "
            f"distribution in the guide, {type(q).__name__}, has none: draw it from independent ones, as "
            "Normal(loc, scale).to_event(1)"
        )
    return inner
