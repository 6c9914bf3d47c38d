"""Scores of a run's codes against the known factors of its data, as --factors asks for them."""

__all__ = ["factor_arrays", "factors_for", "scored"]

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.trained_program import TrainedProgram
from pplvm.data.factors import Factors, factors_of
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.disentanglement.fixed_factors import factors_that_can_be_fixed
from pplvm.evaluation.disentanglement.scores import SECTION, disentanglement
from pplvm.evaluation.evaluation import Evaluation

MEANS = "posterior_mean_"
"""How an evaluation calls the codes of each site."""


def factors_for(trained: TrainedProgram, name: str | None, limit: int | None, every: int = 1) -> Factors | None:
    """The factors of the data that `trained.some(limit, every)` has, from the array of that name; None without.

    Raises:
        ValueError: the data have none, no two data share a level of one, or the program has fewer than two latents.
    """
    if name is None:
        return None
    try:
        found = factors_of(trained.data, name, limit, every)
        factors_that_can_be_fixed(found.levels.numpy(), "a score")
        _require_codes(trained)
    except ValueError as error:
        raise ValueError(f"--factors {name}: {error}") from error
    return found


def _require_codes(trained: TrainedProgram) -> None:
    """Run the guide on two data, before an evaluation whose codes could not be scored."""
    try:
        means = active_units(trained.program, trained.rows(2), num_particles=2).means
    except ValueError:
        raise ValueError("the program has no latents whose codes are scored: leave it out") from None
    if sum(codes.shape[1] for codes in means.values()) < 2:
        raise ValueError("scores compare two latents or more, and the program has one: leave it out")


def scored(found: Evaluation, factors: Factors, seed: int) -> Evaluation:
    """The evaluation with the scores of its posterior means, of all sites together, as a further section."""
    codes = {name.removeprefix(MEANS): means for name, means in found.per_datum.items() if name.startswith(MEANS)}
    print_status("scores against known factors")
    scores = disentanglement(
        torch.cat(list(codes.values()), 1),
        factors.levels,
        factor_names=factors.names,
        latent_names=[f"{name}[{unit}]" for name, means in codes.items() for unit in range(means.shape[1])],
        seed=seed,
    )
    return replace(found, sections=found.sections | {SECTION: scores.figures}, disentanglement=scores)


def factor_arrays(found: Evaluation, factors: Factors) -> dict[str, Any]:
    """The levels of the factors, and the tables of latents by factors behind the scores, as variables of netCDF."""
    scores = found.disentanglement
    if scores is None:
        return {}
    entropy = {"long_name": "mutual information of latent and factor, as a share of the factor's entropy"}
    importance = {"long_name": "importance of a latent to the random forest that predicts a factor"}
    return {
        "factor_level": (("datum", "factor"), factors.levels.numpy(force=True), {}),
        "factor_information": (("latent", "factor"), scores.information, entropy),
        "factor_importance": (("latent", "factor"), scores.importances, importance),
        "factor": ("factor", np.array(factors.names), {}),
        "latent": ("latent", np.array(scores.latent_names), {}),
    }
