"""The reference gradient of a target: exact where latents can be enumerated, else by a declared estimator."""

from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from typing import NamedTuple

import pyro
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.bounds import elbo
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references.penalties import expected_penalty
from pplvm.estimators.references.tables import Project, Reference, Search, averaged, from_tables
from pplvm.estimators.references.target import PenalizedTarget, Target
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.targets import Tabulated
from pplvm.objectives.tempered import Beta
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.particles.contract import ProgramError, latents
from pplvm.particles.enumeration import TooManyStates, enumerate_guide, latent_states
from pplvm.particles.pair import Pair, pair_up
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.side_effects import buffers_restored
from pplvm.particles.vectorization_check import why_data_interact, why_states_interact

__all__ = ["Draw", "reference_draws"]

MOST_STATES = 2**14
"""Tables above this size are not built: 16,384 states by a batch of 50 by 64 pixels are 0.2 GB."""


class Draw(NamedTuple):
    """One draw of a reference that is itself an estimate."""

    target: Target
    source: str  # whose draws they are, in words
    count: int  # how many the reference is the mean of


def reference_draws(
    program: nn.Module,
    parameters: Parameters,
    batch: Batch,
    targets: Collection[Target],
    draws: int,
    project: Project,
    failed: Callable[[Target, Exception], None],
) -> Generator[Draw, None, dict[Target, Reference | None]]:
    """One reference per target on one batch; yields after each draw of one that is itself an estimate.

    Arguments:
        targets: none twice; in their order they draw from one stream.
        draws: of an estimator that must serve as reference; it is kept apart from the draws that it judges.
        project: maps a gradient (P,) to the few numbers (p,) in which references and estimators are compared.
        failed: is told of a target whose reference fails; it has None then, as where nothing can serve.
    """
    args = as_tuple(batch)
    with pyro.get_param_store().scope():
        found: dict[Target, Reference | None] = dict.fromkeys(targets)
        try:
            pair = pair_up(program.model, program.guide, args, {})
        except ProgramError:  # legal for some objectives only, such as Exact with a guide of the rest
            return found
        find = _finder(pair, program, parameters, args, draws, project)
        for target in targets:
            try:
                found[target] = yield from _told_of(target, find(target))
            except Exception as error:  # of many particles at a time, say, where the program cannot be run with them
                failed(target, error)
        return found


def _told_of(target: Target, search: Search) -> Generator[Draw, None, Reference | None]:
    while True:
        try:
            source, count = next(search)
        except StopIteration as end:
            return end.value
        yield Draw(target, source, count)


def _finder(
    pair: Pair, program: nn.Module, parameters: Parameters, args: tuple[Tensor, ...], draws: int, project: Project
) -> Callable[[Target], Search]:
    guide_trace = pair.run_guide(1, args, {})
    states = latent_states(guide_trace)
    score_sites = [s for s in latents(guide_trace).values() if not is_reparameterized(s["fn"])]
    countable = all(LocalExpectation().refusal(site) is None for site in score_sites)

    def drawn(target: Target) -> Search:
        loss = _serving(program, target, bool(score_sites), countable)
        if loss is None:
            return None
        name = type(loss.objective).__name__
        gradients = (_gradient(loss, parameters, args) for _ in range(draws))
        return (yield from averaged(gradients, project, f"{name}, {draws} draws", (name, draws)))

    def summed_out(target: Target) -> Search:
        try:
            kind, K = target
            plain = (kind.plain, K) if isinstance(kind, PenalizedTarget) else target
            log_p, log_q = _tables(pair, plain, args)
            found = yield from from_tables(parameters, log_p, log_q, plain, project)
            if found is None or not isinstance(kind, PenalizedTarget):
                return found
            penalty = expected_penalty(pair, log_q, dict(kind.penalties), args)
            return found.plus(parameters.gradient_of(penalty.mean()), project)
        except TooManyStates:  # for memory
            return (yield from drawn(target))

    if states is None or states > MOST_STATES:
        return drawn
    try:
        return summed_out if _can_be_summed_out(pair, args) else drawn
    except TooManyStates:
        return drawn


def _can_be_summed_out(pair: Pair, args: tuple[Tensor, ...]) -> bool:
    """Whether latents can be enumerated: no state changes another's density, no datum another's."""
    return not (why_states_interact(pair, args, {}, of_guide=True) or why_data_interact(pair, args, {}))


def _gradient(loss: Loss, parameters: Parameters, args: tuple[Tensor, ...]) -> Tensor:
    """The gradient of a loss at the present parameters, (P,)."""
    with buffers_restored(loss):
        return parameters.gradient_of(loss(*args))


def _tables(pair: Pair, target: Target, args: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Log p(x, z), tempered as the target is, and log q(z | x) of all states, (S, B)."""
    if isinstance(target[0], TemperedBound):
        pair = replace(pair, tempering=target[0].tempering())
    return enumerate_guide(pair, args, {})


def _serving(program: nn.Module, target: Target, has_score_sites: bool, countable: bool) -> Loss | None:
    """The estimator whose mean serves as reference where enumeration is impossible."""
    kind, K = target
    if isinstance(kind, Tabulated):
        return None
    if isinstance(kind, PenalizedTarget):
        loss = _serving(program, (kind.plain, K), has_score_sites, countable)
        return loss and Loss(Penalized(loss.objective, dict(kind.penalties)), program)
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
