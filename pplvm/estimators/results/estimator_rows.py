"""The row of each estimator in the result, from the moments of its gradients."""

from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch import Tensor

from pplvm.estimators.measurements.measurement import Measurement
from pplvm.estimators.references.target import particles_of, target_of
from pplvm.estimators.results.dataset import Row
from pplvm.estimators.results.rule_families import rule_of
from pplvm.estimators.statistics.bias import BiasTest
from pplvm.estimators.statistics.cross_covariance import CrossCovarianceStream
from pplvm.estimators.statistics.moments import over_ranks
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import ScoreFunction

__all__ = ["package_versions", "row_of", "traces_of"]

PACKAGES = {"pplvm": "pplvm", "torch": "torch", "pyro": "pyro-ppl"}
"""What gradients depend on, by the name that its version has in the result."""


def row_of(loss: Loss, found: list[Measurement], evaluations: float, test: BiasTest | None, drawn: str) -> Row:
    """The row of one estimator.

    Arguments:
        found: one a minibatch, each with two replicates at least.
        evaluations: of the likelihood, per datum and gradient.
        drawn: one by one, or how many at a time.
    """
    objective = loss.objective
    plain = type(objective) is ScoreFunction and objective.control is None
    return Row(found, target_of(loss), particles_of(loss), evaluations, test, plain, drawn, rule_of(objective))


def traces_of(shared: Sequence[CrossCovarianceStream], shown: Sequence[bool]) -> Tensor:
    """Traces of covariances between estimators, averaged over minibatches: (E, E) of those shown."""
    finished = [found.traces for found in (over_ranks(c.moments()) for c in shared) if found.count > 1]
    traces = torch.stack(finished).mean(0) if finished else torch.full((len(shown),) * 2, torch.nan).double()
    return traces[list(shown)][:, list(shown)]


def package_versions() -> dict[str, str]:
    """The versions of the packages that drew the gradients."""
    return {f"{package}_version": version(name) for package, name in PACKAGES.items()}
