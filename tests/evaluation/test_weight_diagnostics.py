"""Weight health where it is known: tails of known shape, a guide at the posterior, weights of few values."""

import math

import numpy as np
import pytest
import torch

from pplvm.evaluation.weight_diagnostics import _psis, effective_size, khat_limit, pareto_khat, weight_health
from tests.problems import BernoulliToy, linear_gaussian, small_net, two_data


@pytest.mark.parametrize("k", [0.9, 0.2])
def test_khat_of_a_known_tail(k):
    """Weights u^-k are Pareto with shape k; the mean of 200 fits lies within 0.1 of it."""
    log_weights = k * np.random.default_rng(0).exponential(size=(200, 1000))
    found = _psis(log_weights)
    assert found.shape == (200,)
    assert abs(found.mean() - k) < 0.1
    assert abs(_psis(-log_weights).mean() - k) > 0.5  # the wrong sign would be seen
    assert np.allclose(pareto_khat(log_weights - 700), found)


def test_no_tail_no_khat():
    two = np.tile([0.0, 1.0], (1, 500))
    equal = 1e-6 * np.random.default_rng(0).normal(size=(1, 1000))
    lost = np.where(np.arange(1000) < 990, -np.inf, 0.0)[None]
    forty = np.log(np.random.default_rng(0).integers(1, 40, size=(1, 1000)))
    assert np.isnan(pareto_khat(np.concatenate([two, equal, lost, forty]))).all()


def test_weights_of_zero_are_draws_without_a_tail():
    log_weights = 0.9 * np.random.default_rng(0).exponential(size=(1, 1000))
    some = np.concatenate([log_weights, np.full((1, 1000), -np.inf)], 1)  # as in a body of finite weights
    body = np.concatenate([log_weights, np.full((1, 1000), -800.0)], 1)
    assert np.allclose(pareto_khat(some), pareto_khat(body)) and 0.6 < pareto_khat(some)[0] < 1.2
    sizes = effective_size(torch.tensor(np.concatenate([some, np.full((1, 2000), -np.inf)])).T)
    assert torch.allclose(sizes[0], effective_size(torch.tensor(log_weights).T)) and sizes[1] == 0


def test_a_guide_at_the_posterior_wastes_no_draw():
    health = weight_health(linear_gaussian().at_posterior(), [torch.randn(4, 3), torch.randn(2, 3)], draws=100)
    assert health.sizes == {"datum": 6}
    assert np.allclose(health.weight_ess, 1) and np.allclose(health.weight_max, 0.01)
    assert health.weight_khat.isnull().all() and health.weight_khat.attrs == {"draws": 100, "limit": 0.5}


def test_effective_sample_size_and_tail_of_a_guide_too_narrow():
    """q = N(m, s^2 v) about the posterior N(m, v): k-hat tends to 1 - s^2 where s < 1; ESS is in closed form."""
    program, s = linear_gaussian(1, 1).at_posterior(), 0.8
    with torch.no_grad():
        program.log_scale += math.log(s)
    health = weight_health(program, [torch.randn(60, 1)], draws=2000)
    truth = math.sqrt(2 * s**2 - 1) / s**2  # (E_q w)^2 / E_q w^2 of two Gaussians
    error = float(health.weight_ess.std()) / 60**0.5
    assert abs(float(health.weight_ess.mean()) - truth) < 5 * error + 0.01
    assert 0.1 < float(health.weight_khat.mean()) < 0.5
    with torch.no_grad():
        program.log_scale += math.log(0.5)
    narrow = weight_health(program, [torch.randn(60, 1)], draws=2000)
    assert float(narrow.weight_khat.mean()) > khat_limit(2000)
    assert float(narrow.weight_ess.mean()) < float(health.weight_ess.mean())


def test_effective_sample_size_by_enumeration():
    """Two states: ESS over S tends to (sum q w)^2 / sum q w^2."""
    toy = BernoulliToy(0.8, 0.3)
    theta, w1, w0 = 1 / (1 + math.exp(-0.8)), math.exp(0.7**2), math.exp(0.3**2)
    truth = (theta * w1 + (1 - theta) * w0) ** 2 / (theta * w1**2 + (1 - theta) * w0**2)
    health = weight_health(toy, [torch.zeros(5, 1)], draws=4000)
    assert np.allclose(health.weight_ess, truth, atol=0.01)
    assert health.weight_khat.isnull().all()


def test_draws_in_several_runs_are_as_many(monkeypatch):
    monkeypatch.setattr("pplvm.evaluation.weight_diagnostics.AT_ONCE", 6 * 40)
    health = weight_health(small_net(), [two_data()], draws=100)  # 40 + 40 + 20
    assert (health.weight_max * 100 >= 1).all() and (health.weight_ess <= 1 + 1e-12).all()


def test_the_random_state_is_left_as_it_was():
    net, before = small_net(), torch.get_rng_state()
    weight_health(net, [two_data()], draws=30)
    assert torch.equal(before, torch.get_rng_state())


def test_too_few_draws():
    with pytest.raises(ValueError, match="at least 25 draws a datum, got 24"):
        weight_health(small_net(), [two_data()], draws=24)
