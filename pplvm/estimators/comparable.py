"""Checks of losses, minibatches and program, before their gradients are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pplvm.batch import Batch, as_tuple
from pplvm.distributed.ranks import size
from pplvm.objectives.objective import Loss
from pplvm.particles.contract import sample_sites
from pplvm.particles.pair import inspect_pair

__all__ = ["require_comparable", "require_given_minibatches"]


def require_comparable(
    losses: Mapping[str, Loss], batches: Sequence[Batch], replicates: int, reference_draws: int
) -> None:
    """Refuse losses that cannot be compared: other programs, too few replicates.

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


def require_given_minibatches(program: nn.Module, batch: Batch) -> None:
    """Refuse a program that subsamples data itself, so that gradients are of different data.

    Raises:
        ValueError: a site of the model has a batch plate of another size than x.
    """
    model: Any = program.model
    x, *conditions = as_tuple(batch)
    trace, _, _ = inspect_pair(model, None, (x, *conditions), {})
    for site in sample_sites(trace).values():
        if any(f.dim == -1 and f.size != len(x) for f in site["cond_indep_stack"]):
            raise ValueError(
                f"compare_gradients: site {site['name']!r} draws a minibatch of its own from what it is given, so "
                "no two gradients are of the same data: give minibatches, subsample_size=len(x)"
            )
