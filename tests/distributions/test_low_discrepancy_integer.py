"""Integers drawn evenly over a batch: each uniform, together spread out."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from pplvm.distributions.low_discrepancy_integer import LowDiscrepancyInteger
from pplvm.distributions.temperature import at_temperature
from pplvm.particles.enumeration import number_of_states, support


@pytest.mark.parametrize("size, N", [(6, 3), (5, 7), (1, 4)])
def test_each_is_uniform_and_together_they_are_spread_evenly(size, N):
    torch.manual_seed(0)
    draws = LowDiscrepancyInteger(N).expand([size]).sample((7000,))
    share = torch.stack([(draws == n).double().mean(0) for n in range(1, N + 1)])
    assert ((share - 1 / N).abs() / ((1 / N) * (1 - 1 / N) / 7000) ** 0.5).max() < 4.5
    counts = torch.stack([(draws == n).sum(1) for n in range(1, N + 1)])
    assert counts.min() >= math.floor(size / N) and counts.max() <= math.ceil(size / N), "independent ones are not"
    assert size == 1 or draws.double().mean(1).var() < 0.3 * (N**2 - 1) / 12 / size


def test_shapes_support_and_states():
    fn = LowDiscrepancyInteger(4).expand([3, 5])
    draws = fn.sample((2,))
    assert draws.shape == (2, 3, 5) and fn.support.check(draws).all() and fn.log_prob(draws).shape == (2, 3, 5)
    assert fn.log_prob(draws).exp()[0, 0, 0].item() == pytest.approx(0.25)
    assert support(fn).tolist() == [1, 2, 3, 4] and number_of_states(fn) == 4
    assert fn.enumerate_support().shape == (4, 3, 5) and LowDiscrepancyInteger(4).sample().shape == ()
    with pytest.raises(ValueError, match="support"):
        fn.log_prob(torch.tensor(0))
    assert torch.equal(kl_divergence(fn, LowDiscrepancyInteger(4)), torch.zeros(3, 5))
    with pytest.raises(NotImplementedError):
        kl_divergence(fn, LowDiscrepancyInteger(5))
    with pytest.raises(ValueError, match="high must be at least 1, got 0"):
        LowDiscrepancyInteger(0)


def test_a_temperature_leaves_it_as_it_is():
    fn = LowDiscrepancyInteger(3)
    assert at_temperature(fn, 0.5) is fn


def test_vmap():
    fn = LowDiscrepancyInteger(4, (3,), validate_args=False)
    drawn = torch.func.vmap(lambda _: fn.sample(), randomness="different")(torch.zeros(6))
    assert drawn.shape == (6, 3) and torch.func.vmap(fn.log_prob)(drawn).shape == (6, 3)


def test_the_moments_are_those_of_all_numbers():
    fn = LowDiscrepancyInteger(5, (2,))
    every = fn.enumerate_support().double()
    torch.testing.assert_close(fn.mean, every.mean(0))
    torch.testing.assert_close(fn.variance, every.var(0, correction=0))
