"""Compares gradient estimators of one program in one call."""

from collections.abc import Mapping, Sequence
from typing import Any

from pplvm.batch import Batch
from pplvm.distributed.progress import bar
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.replicates.sampling import Sampling
from pplvm.estimators.results.display import ComparisonResult
from pplvm.objectives.objective import Loss

__all__ = ["compare_gradients"]

OF_SAMPLING = {"seed", "own_noise", "noise", "points", "compile"}
"""Options that say how replicates are drawn."""


def compare_gradients(
    losses: Mapping[str, Loss], batches: Sequence[Batch], *, progress: bool | None = None, **options: Any
) -> ComparisonResult:
    """Compare gradient estimators of one program at its present parameters.

    Arguments:
        losses, batches: as for `Comparison`.
        progress: whether a bar is shown; by default on a terminal and in a notebook.
        options: as for `Comparison` (`replicates`, `reference_draws`, `warm_up`, `kept`, `tell`) and, of how replicates
            are drawn, as for `Sampling` and `Sampling.of` (`seed`, `own_noise`, `noise`, `points`, `compile`).

    Returns:
        An xarray.Dataset with dims chain (minibatch), draw, estimator, coord, group, side, which prints, and which
        notebooks show, as its ranked table; ArviZ reads it as it is.

    Example:
        >>> import torch
        >>> from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
        >>> from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
        >>> program = SigmoidBeliefNet(data_size=6, latent_sizes=(2,))
        >>> losses = {"reinforce": Loss(ScoreFunction(), program), "rloo": Loss(LeaveOneOut(), program)}
        >>> result = compare_gradients(losses, [torch.ones(5, 6)], replicates=20)
        >>> bool(result.variance.sel(estimator="rloo") < result.variance.sel(estimator="reinforce"))
        True
    """
    sampling = Sampling.of(**{name: options.pop(name) for name in OF_SAMPLING & options.keys()})
    comparison = Comparison(losses, batches, sampling=sampling, **options)
    with bar("replicates", comparison.number_of_rounds, shown=progress) as shown:
        for done in comparison.rounds():
            shown.at(done)
    return comparison.result()
