"""From what streamed in to the rows of the result, and what is asked of a program before."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.distributed.ranks import size
from pplvm.estimators.results.dataset import Row
from pplvm.estimators.results.rule_families import rule_of
from pplvm.estimators.statistics.bias import BiasTest
from pplvm.estimators.statistics.cross_covariance import Crossing
from pplvm.estimators.statistics.measurement import Measurement, particles_of, target_of
from pplvm.estimators.statistics.moments import over_ranks
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import ScoreFunction
from pplvm.particles.contract import sample_sites
from pplvm.particles.pair import inspect_pair

__all__ = ["require_comparable", "require_given_minibatches", "row_of", "traces_of"]


def row_of(loss: Loss, found: list[Measurement], evaluations: float, test: BiasTest | None, drawn: str) -> Row:
    """One estimator's.

    Arguments:
        found: one a minibatch, each with two replicates at least.
        evaluations: of the likelihood, per datum and gradient.
        drawn: one by one, or how many at a time.
    """
    objective = loss.objective
    plain = type(objective) is ScoreFunction and objective.control is None
    return Row(found, target_of(loss), particles_of(loss), evaluations, test, plain, drawn, rule_of(objective))


def traces_of(crossed: Sequence[Crossing], shown: Sequence[bool]) -> Tensor:
    """Traces of the covariances between estimators, the mean over minibatches: (E, E) of those that are shown."""
    finished = [found.traces for found in (over_ranks(c.moments()) for c in crossed) if found.count > 1]
    traces = torch.stack(finished).mean(0) if finished else torch.full((len(shown),) * 2, torch.nan).double()
    return traces[list(shown)][:, list(shown)]


def require_comparable(
    losses: Mapping[str, Loss], batches: Sequence[Tensor], replicates: int, reference_draws: int
) -> None:
    """Refuse what cannot be compared.

    Raises:
        ValueError: no estimator, no batch, fewer than 2 replicates, reference draws or replicates than ranks; losses
            of different programs.
    """
    if not losses or not batches or replicates < 2:
        raise ValueError("compare_gradients needs an estimator, a batch and at least 2 replicates")
    if reference_draws < 2:
        raise ValueError(f"reference_draws must be at least 2, to know how far off they are; got {reference_draws}")
    if replicates < size():
        raise ValueError(f"{replicates} replicates are fewer than the {size()} processes: start fewer")
    programs = {id(loss.program) for loss in losses.values()}
    if len(programs) != 1:
        raise ValueError("compare_gradients compares estimators of one program; these losses hold several")


def require_given_minibatches(program: nn.Module, x: Tensor) -> None:
    """Refuse a program that subsamples for itself, so that no two gradients are of the same data.

    Raises:
        ValueError: a site of the model has a batch plate of another size than x.
    """
    model: Any = program.model
    trace, _, _ = inspect_pair(model, None, (x,), {})
    for site in sample_sites(trace).values():
        if any(f.dim == -1 and f.size != len(x) for f in site["cond_indep_stack"]):
            raise ValueError(
                f"compare_gradients: site {site['name']!r} draws a minibatch of its own from what it is given, so "
                "no two gradients are of the same data: give minibatches, subsample_size=len(x)"
            )
