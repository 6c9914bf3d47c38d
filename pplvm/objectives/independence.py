"""Refuses programs whose data depend on each other's draws, where a rule credits each datum by itself."""

from collections.abc import Collection

import torch

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.particles.agreement import data_disagree
from pplvm.particles.containment import contained
from pplvm.particles.contract import Site, latents
from pplvm.particles.pair import Pair

__all__ = ["learning_latents", "require_independent_data"]


def learning_latents(pair: Pair, args: tuple, kwargs: dict) -> dict[str, Site]:
    """The guide's latents whose density depends on parameters that learn."""
    with contained(pair, args, kwargs), torch.enable_grad():
        trace = pair.run_guide(1, args, kwargs)
        log_q = pair.site_terms(trace)
        return {name: site for name, site in latents(trace).items() if log_q[name].requires_grad}


def require_independent_data(
    objective: Objective, pair: Pair, args: tuple, kwargs: dict, names: Collection[str] | None = None
) -> None:
    """Refuse a program in which a datum's draws change the densities of other data.

    Arguments:
        names: of the latents whose draws matter; all unless given.

    Raises:
        ObjectiveError: a density moves when other data of the batch have other draws.
    """
    if (fault := data_disagree(pair, args, kwargs, names)) is not None:
        raise ObjectiveError(
            f"{type(objective).__name__} takes a datum's draws to change that datum's densities alone, but {fault}"
        )
