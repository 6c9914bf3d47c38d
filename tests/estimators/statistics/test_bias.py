"""The bias test keeps its error rates, and says truly what it could have seen."""

import math

import pytest
import torch

from pplvm.estimators.statistics.bias import bias_test


def verdict_on(draws, bias, gradient, **options):
    """One test on `draws` Gaussian deviations with the given mean."""
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.5, 2.0]])
    rows = torch.randn(draws, 3) @ mixing.T + bias
    return bias_test(rows.mean(0), torch.cov(rows.T) / draws, draws, gradient, **options)


GRADIENT = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)


@pytest.mark.slow
def test_false_alarms_are_as_stated():
    verdicts = [verdict_on(60, torch.zeros(3), GRADIENT, alpha=0.05).verdict for _ in range(2000)]
    alarms = verdicts.count("biased")
    assert 60 < alarms < 145  # 100 expected, standard deviation 9.7


def test_the_detectable_bias_is_detected_with_the_stated_power():
    once = verdict_on(400, torch.zeros(3), GRADIENT, alpha=0.01, power=0.9)
    bias = once.detectable * GRADIENT[0]
    seen = [verdict_on(400, bias, GRADIENT, alpha=0.01).verdict == "biased" for _ in range(500)]
    assert 0.84 < sum(seen) / 500 < 0.96  # the detectable bias is itself estimated from 400 draws
    half = [verdict_on(400, bias / 3, GRADIENT, alpha=0.01).verdict == "biased" for _ in range(300)]
    assert sum(half) / 300 < 0.35


def test_opposite_biases_do_not_cancel():
    assert verdict_on(400, torch.tensor([0.5, -0.5, 0.0]), GRADIENT).verdict == "biased"


def test_unbiased_is_said_only_with_power():
    assert verdict_on(20_000, torch.zeros(3), GRADIENT).verdict == "unbiased"
    few = verdict_on(20, torch.zeros(3), GRADIENT)
    assert few.verdict == "undecided" and few.detectable > 0.05


def test_too_few_draws_for_the_projections():
    assert verdict_on(4, torch.zeros(3), GRADIENT).verdict == "undecided"


@pytest.mark.parametrize("mean, verdict", [(0.0, "unbiased"), (1e-7, "unbiased"), (0.3, "biased")])
def test_without_noise_only_rounding_is_forgiven(mean, verdict):
    found = bias_test(torch.full((3,), mean), torch.zeros(3, 3), 10, GRADIENT)
    assert found.verdict == verdict


def test_one_silent_projection_is_enough():
    """Where an estimator never moves (a gradient stuck at zero), no noise excuses the gap."""
    covariance = torch.diag(torch.tensor([0.1, 0.0, 0.1]))
    found = bias_test(torch.tensor([0.0, 2.0, 0.0]), covariance, 100, GRADIENT)
    assert found.verdict == "biased" and found.z[1] == torch.inf


def test_the_detectable_bias_is_that_of_the_harder_side():
    """A loud, well-known model gradient must not hide that the guide's is lost in noise."""
    covariance = torch.diag(torch.tensor([1e-6, 1e-6, 1.0]))
    both = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = bias_test(torch.zeros(3), covariance, 1000, both)
    assert found.detectable > 1 and found.verdict == "undecided"
    assert bias_test(torch.zeros(3), covariance, 1000, both[:1]).verdict == "unbiased"


def test_hardly_more_draws_than_projections_can_detect_nothing():
    covariance, gradient = torch.eye(10), torch.ones(1, 10)
    test = bias_test(torch.zeros(10), covariance, 12, gradient, alpha=5e-4)
    assert math.isinf(test.detectable) and test.verdict == "undecided"
