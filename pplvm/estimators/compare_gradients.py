"""Gradient estimators of one program side by side, in one call."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pplvm.distributed.progress import bar
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.results.display import ComparisonResult
from pplvm.objectives.objective import Loss

__all__ = ["compare_gradients"]


def compare_gradients(
    losses: Mapping[str, Loss], batches: Sequence[Tensor], *, progress: bool | None = None, **options: Any
) -> ComparisonResult:
    """Compare gradient estimators of one program at its present parameters.

    Arguments:
        losses, batches, options: as for `Comparison`.
        progress: whether a bar is shown; by default on a terminal and in a notebook.

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
    comparison = Comparison(losses, batches, **options)
    with bar("replicates", comparison.number_of_rounds, shown=progress) as shown:
        for done in comparison.rounds():
            shown.at(done)
    return comparison.result()
