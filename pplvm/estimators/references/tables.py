"""Reference gradients from tables of log p(x, z) and log q(z | x) over all S states of the latents.

    elbo         sum_s q_s (log p_s - log q_s)

The targets of `pplvm.objectives.targets` follow from the tables likewise. A bound of K > 1 particles is an expectation
over S^K states; it is drawn from the tables, many times over.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references.target import PenalizedTarget, Target
from pplvm.estimators.statistics.moments import Moments
from pplvm.objectives.score_function import leave_one_out_weights
from pplvm.objectives.targets import Tabulated

__all__ = ["Project", "Reference", "Search", "averaged", "from_tables"]

ROUNDS = 40
"""Rounds of draws from tables, enough to estimate the covariance of a few projections."""

DRAWS_AT_ONCE = 400
"""Draws of K particles per datum in one evaluation on the tables."""

Project = Callable[[Tensor], Tensor]
"""From a gradient (P,) to the few numbers (p,) in which references and estimators are compared."""


@dataclass(frozen=True)
class Reference:
    """A reference gradient of the loss per datum, with its draws where it is an estimate."""

    gradient: Tensor  # (P,)
    error: Tensor  # (P,), its squared standard error; zero if it is exact
    projected: Tensor | None  # (N, p), projections of the draws whose mean it is; None if it is exact
    label: str

    @property
    def relative_error(self) -> float:
        """The standard error of the gradient as a fraction of its norm."""
        return float(self.error.sum().sqrt() / self.gradient.norm())

    def plus(self, gradient: Tensor, project: Project) -> "Reference":
        """The reference plus the exact gradient (P,) of another term."""
        projected = None if self.projected is None else self.projected + project(gradient.double())
        return replace(self, gradient=self.gradient + gradient.to(self.gradient), projected=projected)


Search = Generator[tuple[str, int], None, Reference | None]
"""Finds a reference; pauses after each draw of it, of which it tells the source and how many there will be."""


def averaged(gradients: Iterable[Tensor], project: Project, label: str, told: tuple[str, int]) -> Search:
    """The mean of at least two gradients (P,), as a reference.

    Arguments:
        told: the source of the draws, and how many there will be.
    """
    moments, projected = None, []
    for gradient in gradients:
        moments = moments or Moments(len(gradient))
        moments.add(gradient)
        projected.append(project(gradient.double()))
        yield told
    assert moments is not None
    return Reference(moments.mean, moments.standard_error.square(), torch.stack(projected), label)


def from_tables(parameters: Parameters, log_p: Tensor, log_q: Tensor, target: Target, project: Project) -> Search:
    """The reference of a target without penalties from tables (S, B); None where they do not suffice."""
    kind, K = target
    assert not isinstance(kind, PenalizedTarget)
    B = log_p.shape[-1]
    log_w = log_p - log_q
    if isinstance(kind, Tabulated):
        if kind.of_tables is None:
            return None
        bound = kind.of_tables(log_p, log_q).sum()
    elif kind is elbo or K == 1:
        bound = (log_q.exp() * log_w).sum()
    else:
        gradients = (_drawn(parameters, log_w, log_q, kind, K) for _ in range(ROUNDS))
        label = f"{ROUNDS * DRAWS_AT_ONCE:,} draws from tables"
        return (yield from averaged(gradients, project, label, ("tables", ROUNDS)))
    gradient = parameters.gradient_of(-bound / B).double()
    return Reference(gradient, torch.zeros_like(gradient), None, "exact")


def _drawn(parameters: Parameters, log_w: Tensor, log_q: Tensor, bound: Callable[[Tensor], Tensor], K: int) -> Tensor:
    """The leave-one-out gradient of a K-particle bound, averaged over draws of states from the tables."""
    B = log_w.shape[-1]
    on_score, on_weight = torch.zeros_like(log_w), torch.zeros_like(log_w)  # (S, B)
    at_once = max(1, min(DRAWS_AT_ONCE, 4_000_000 // (K * K * B)))
    rounds = -(-DRAWS_AT_ONCE // at_once)
    for _ in range(rounds):
        states = torch.multinomial(log_q.detach().exp().T, K * at_once, replacement=True)  # (B, K N)
        states = states.reshape(B, K, at_once).permute(1, 2, 0)  # (K, N, B)
        drawn = log_w.detach().gather(0, states.flatten(0, 1)).reshape(states.shape).requires_grad_()
        value = bound(drawn)  # (N, B)
        (slope,) = torch.autograd.grad(value.sum(), drawn)
        with torch.no_grad():
            others = leave_one_out_weights(drawn.flatten(1)).reshape(K, K, *value.shape)
            credit = value - bound(others)
            on_score.scatter_add_(0, states.flatten(0, 1), credit.flatten(0, 1))
            on_weight.scatter_add_(0, states.flatten(0, 1), slope.flatten(0, 1))
    total = (on_score * log_q + on_weight * log_w).sum() / (rounds * at_once)
    return parameters.gradient_of(-total / B)
