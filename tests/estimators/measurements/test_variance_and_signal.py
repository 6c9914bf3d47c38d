"""Figures of one estimator, pooled over minibatches: few replicates make intervals as wide as they must be."""

import math
from types import SimpleNamespace

import pytest
import torch

from pplvm.estimators.measurements.variance_and_signal import variance_of
from pplvm.estimators.statistics.moments import Moments

ENTRIES, REPEATS = 20, 400


def measured(replicates):
    """What `variance_of` reads of gradients with independent standard normal entries, on one minibatch."""
    gradients = torch.randn(replicates, ENTRIES)
    gradient = SimpleNamespace(variance=gradients.var(0), count=replicates)
    return SimpleNamespace(gradient=gradient, spread=Moments.of(gradients.square().sum(1, keepdim=True)))


@pytest.mark.parametrize(("replicates", "minibatches"), [(3, 1), (4, 1), (8, 1), (3, 4), (80, 4)])
def test_intervals_of_the_variance_cover_it_and_two_alike_are_told_apart_no_more_often_than_said(
    replicates, minibatches
):
    """With the normal quantile 4 replicates would cover it in 81 % and be told apart in 13 % of the repeats."""
    covered = told_apart = 0
    for _ in range(REPEATS):
        (one, own), (other, its) = (variance_of([measured(replicates) for _ in range(minibatches)]) for _ in "ab")
        covered += abs(math.log(one / ENTRIES)) <= 1.96 * own / one
        told_apart += abs(math.log(one / other)) > 1.96 * math.hypot(own / one, its / other)
    deviation = math.sqrt(0.05 * 0.95 * REPEATS)
    assert covered > (0.95 - 0.04) * REPEATS - 3 * deviation
    assert told_apart < (0.05 + 0.02) * REPEATS + 3 * deviation
