"""Checks that the data of a batch are independent, as rules that credit each datum by itself require."""

from collections.abc import Collection

import torch

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.particles.contract import Site, latents
from pplvm.particles.isolated_run import isolated
from pplvm.particles.pair import Pair
from pplvm.particles.vectorization_check import why_data_interact

__all__ = ["learning_latents", "require_independent_data"]


def learning_latents(pair: Pair, args: tuple, kwargs: dict) -> dict[str, Site]:
    """The guide's latents whose density depends on trainable parameters."""
    with isolated(pair, args, kwargs), torch.enable_grad():
        trace = pair.run_guide(1, args, kwargs)
        log_q = pair.site_terms(trace)
        return {name: site for name, site in latents(trace).items() if log_q[name].requires_grad}


def require_independent_data(
    objective: Objective, pair: Pair, args: tuple, kwargs: dict, names: Collection[str] | None = None
) -> None:
    """Refuse a program in which one datum's draws change the density of another.

    Arguments:
        names: of the latents whose draws matter; all unless given.

    Raises:
        ObjectiveError: a density moves when other data of the batch have other draws.
    """
    if (fault := why_data_interact(pair, args, kwargs, names)) is not None:
        raise ObjectiveError(
            f"{type(objective).__name__} takes a datum's draws to change that datum's densities alone, but {fault}"
        )
