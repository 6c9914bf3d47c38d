"""The gradient that an estimator should have: exact where the latents can be enumerated, else declared.

From the tables log p(x, z) and log q(z | x) of all S states the elbo follows without drawing, as do the targets
of `pplvm.objectives.targets`:

    elbo         sum_s q_s (log p_s - log q_s)

A bound of K > 1 particles is an expectation over S^K states; it is drawn from the tables, many times over.
"""

from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyro
import torch
from torch import Tensor, nn

from pplvm.bounds import elbo
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.statistics.moments import Moments
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, without_each
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.tempered import Beta
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.particles.agreement import data_disagree, states_disagree
from pplvm.particles.contract import ProgramError, latents
from pplvm.particles.enumeration import TooManyStates, enumerate_guide, latent_states
from pplvm.particles.pair import Pair, pair_up
from pplvm.particles.paths import has_path
from pplvm.particles.side_effects import buffers_kept

__all__ = ["Draw", "Reference", "Target", "reference_draws"]

MOST_STATES = 2**14
"""Tables above this size are not built: 16,384 states by a batch of 50 by 64 pixels are 0.2 GB."""

Project = Callable[[Tensor], Tensor]

Target = tuple[Callable[[Tensor], Tensor] | Tabulated, int]
"""What is estimated: a bound and its number of particles, or a function of the tables."""


@dataclass(frozen=True)
class Reference:
    """A gradient of the loss per datum, and draws of it where it is itself an estimate."""

    gradient: Tensor  # (P,)
    error: Tensor  # (P,), its squared standard error; zero if it is exact
    projected: Tensor | None  # (N, p), projections of the draws whose mean it is; None if it is exact
    label: str

    @property
    def relative_error(self) -> float:
        """The standard error of the whole, as a fraction of the gradient's norm."""
        return float(self.error.sum().sqrt() / self.gradient.norm())


class Draw(NamedTuple):
    """One draw of a reference that is itself an estimate."""

    target: Target
    source: str  # whose draws they are, in words
    count: int  # how many the reference is the mean of


Drawing = Generator[tuple[str, int], None, Reference | None]
"""Finds a reference; pauses after each draw of it, of which it tells the source and how many there will be."""


def reference_draws(
    program: nn.Module,
    parameters: Parameters,
    x: Tensor,
    targets: Collection[Target],
    draws: int,
    project: Project,
    failed: Callable[[Target, Exception], None],
) -> Generator[Draw, None, dict[Target, Reference | None]]:
    """One reference per target on one batch; pauses after each draw of one that is itself an estimate, returns all.

    Arguments:
        targets: none twice; in their order they draw from one stream.
        draws: of an estimator that must serve as reference; it is kept apart from the draws that it judges.
        project: maps a gradient (P,) to the few numbers (p,) in which references and estimators are compared.
        failed: is told of a target whose reference fails; it has None then, as where nothing can serve.
    """
    with pyro.get_param_store().scope():
        found: dict[Target, Reference | None] = dict.fromkeys(targets)
        try:
            pair = pair_up(program.model, program.guide, (x,), {})
        except ProgramError:  # legal for some objectives only, such as Exact with a guide of the rest
            return found
        find = _finder(pair, program, parameters, x, draws, project)
        for target in targets:
            try:
                found[target] = yield from _told_of(target, find(target))
            except Exception as error:  # of many particles at a time, say, where the program cannot be run with them
                failed(target, error)
        return found


def _told_of(target: Target, drawing: Drawing) -> Generator[Draw, None, Reference | None]:
    while True:
        try:
            source, count = next(drawing)
        except StopIteration as end:
            return end.value
        yield Draw(target, source, count)


def _finder(
    pair: Pair, program: nn.Module, parameters: Parameters, x: Tensor, draws: int, project: Project
) -> Callable[[Target], Drawing]:
    guide_trace = pair.run_guide(1, (x,), {})
    states = latent_states(guide_trace)
    score_sites = [s for s in latents(guide_trace).values() if not has_path(s["fn"])]
    countable = all(LocalExpectation().refusal(site) is None for site in score_sites)

    def drawn(target: Target) -> Drawing:
        loss = _serving(program, target, bool(score_sites), countable)
        if loss is None:
            return None
        name = type(loss.objective).__name__
        gradients = (_gradient(loss, parameters, x) for _ in range(draws))
        return (yield from _averaged(gradients, project, f"{name}, {draws} draws", (name, draws)))

    def summed_out(target: Target) -> Drawing:
        try:
            return (yield from _from_tables(parameters, *_tables(pair, target, x), target, project))
        except TooManyStates:  # for memory
            return (yield from drawn(target))

    if states is None or states > MOST_STATES:
        return drawn
    try:
        return summed_out if _can_be_summed_out(pair, x) else drawn
    except TooManyStates:
        return drawn


def _can_be_summed_out(pair: Pair, x: Tensor) -> bool:
    """Whether tables of a datum's states hold: no state changes another's density, no datum another's."""
    return not (states_disagree(pair, (x,), {}, of_guide=True) or data_disagree(pair, (x,), {}))


def _gradient(loss: Loss, parameters: Parameters, x: Tensor) -> Tensor:
    """One draw of it where the program stands, (P,)."""
    with buffers_kept(loss):
        return parameters.gradient_of(loss(x))


def _tables(pair: Pair, target: Target, x: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(target[0], TemperedBound):
        pair = replace(pair, tempering=target[0].tempering())
    return enumerate_guide(pair, (x,), {})


def _averaged(gradients: Iterable[Tensor], project: Project, label: str, told: tuple[str, int]) -> Drawing:
    moments, projected = None, []
    for gradient in gradients:
        moments = moments or Moments(len(gradient))
        moments.add(gradient)
        projected.append(project(gradient.double()))
        yield told
    assert moments is not None
    return Reference(moments.mean, moments.standard_error.square(), torch.stack(projected), label)


def _from_tables(parameters: Parameters, log_p: Tensor, log_q: Tensor, target: Target, project: Project) -> Drawing:
    kind, K = target
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
        return (yield from _averaged(gradients, project, label, ("tables", ROUNDS)))
    gradient = parameters.gradient_of(-bound / B).double()
    return Reference(gradient, torch.zeros_like(gradient), None, "exact")


ROUNDS = 40
"""Rounds of draws from tables, enough to estimate the covariance of a few projections."""

DRAWS_AT_ONCE = 400
"""Draws of K particles per datum in one evaluation on the tables."""


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
            others = without_each(drawn.flatten(1)).reshape(K, K, *value.shape)
            credit = value - bound(others)
            on_score.scatter_add_(0, states.flatten(0, 1), credit.flatten(0, 1))
            on_weight.scatter_add_(0, states.flatten(0, 1), slope.flatten(0, 1))
    total = (on_score * log_q + on_weight * log_w).sum() / (rounds * at_once)
    return parameters.gradient_of(-total / B)


def _serving(program: nn.Module, target: Target, has_score_sites: bool, countable: bool) -> Loss | None:
    """The estimator that stands in for a gradient that cannot be summed."""
    kind, K = target
    if isinstance(kind, Tabulated):
        return None
    if isinstance(kind, TemperedBound):
        loss = _serving(program, (kind.bound, K), has_score_sites, countable)
        return loss and Loss(Beta(Beta(loss.objective, kind.beta), dict(kind.own)), program)
    kind = elbo if K == 1 else kind
    objective: Objective
    if not has_score_sites:
        objective = Pathwise(kind, 16 if kind is elbo else K)
    elif kind is elbo and countable:
        objective = LocalExpectation()
    else:
        objective = LeaveOneOut(kind, 16 if kind is elbo else max(K, 2))
    return Loss(objective, program)
