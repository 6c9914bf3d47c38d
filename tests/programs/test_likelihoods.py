"""Likelihoods by name: where their outputs start, and what they refuse."""

import pytest
import torch
from torch import nn

from pplvm.programs.likelihoods import LIKELIHOODS, DiscretizedLogisticOutputs, likelihood_named, start_at

D = 6


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_decoder_starts_at_the_mean_of_the_data(name):
    likelihood, mean = likelihood_named(name, D, levels=17), torch.linspace(0.02, 0.98, D)
    layer = nn.Linear(3, likelihood.output_size)
    nn.init.zeros_(layer.weight)
    start_at(layer, likelihood, mean)
    found = likelihood(layer(torch.zeros(2, 3)))
    assert found.batch_shape == (2,) and found.event_shape == (D,)
    assert (found.mean - mean).abs().max() < 0.06


def test_grey_values_have_a_mixture_each():
    likelihood = likelihood_named("discretized-logistic", D, levels=17)
    assert likelihood.output_size == 9 * D
    fn = likelihood(torch.randn(3, 4, likelihood.output_size))
    draws = fn.sample()
    assert draws.shape == (3, 4, D) and fn.support.check(draws).all() and fn.support.is_discrete


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_however_large_give_finite_slopes(dtype):
    likelihood = DiscretizedLogisticOutputs(D, 256)
    for size in (1e2, 1e4):
        outputs = (size * torch.randn(likelihood.output_size, dtype=dtype)).requires_grad_()
        for value in (0.0, 100 / 255, 1.0):
            likelihood(outputs).log_prob(torch.full((D,), value, dtype=dtype)).backward()
        assert outputs.grad.isfinite().all()


def test_what_is_refused():
    with pytest.raises(ValueError, match="must be 'bernoulli' or 'gaussian' or 'discretized-logistic', got 'beta'"):
        likelihood_named("beta", D)
    with pytest.raises(ValueError, match="levels is not known: give levels"):
        likelihood_named("discretized-logistic", D)
    with pytest.raises(ValueError, match="levels must be an integer of at least 2"):
        likelihood_named("discretized-logistic", D, levels=1)
    with pytest.raises(ValueError, match="num_components must be positive"):
        DiscretizedLogisticOutputs(D, 17, 0)
