"""Uniform permutations: every order alike, in plates, particles, graphs and vmap."""

import math
from itertools import permutations

import pytest
import torch
from torch.distributions import kl_divergence

from pplvm.distributions.temperature import at_temperature
from pplvm.distributions.uniform_permutation import UniformPermutation
from pplvm.particles.dependencies import another_value
from pplvm.particles.enumeration import number_of_states


def test_every_order_is_drawn_alike():
    torch.manual_seed(0)
    fn = UniformPermutation(4)
    draws = fn.sample((4800,))
    counts = [int((draws == torch.tensor(order)).all(-1).sum()) for order in permutations(range(4))]
    assert sum(counts) == 4800 and max(abs(count - 200) for count in counts) < 4.5 * 200**0.5
    assert fn.log_prob(draws).exp()[0].item() == pytest.approx(1 / 24) and fn.entropy().item() == pytest.approx(
        math.log(24)
    )


def test_shapes_support_and_states():
    fn = UniformPermutation(3).expand([2, 5])
    assert (fn.batch_shape, fn.event_shape, fn.has_rsample) == ((2, 5), (3,), False)
    draws = fn.sample((7,))
    assert draws.shape == (7, 2, 5, 3) and fn.log_prob(draws).shape == (7, 2, 5) and fn.support.check(draws).all()
    assert fn.support.check(torch.tensor([[0, 2, 2], [0, 1, 3], [2, 1, 0]])).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="support"):
        fn.log_prob(torch.zeros(3, dtype=torch.long))
    assert fn.enumerate_support().shape == (6, 2, 5, 3) and fn.enumerate_support(expand=False).shape == (6, 1, 1, 3)
    assert number_of_states(fn) == 6 and fn.support.check(another_value(fn, draws)).all()
    large = UniformPermutation(8)
    assert not large.has_enumerate_support and large.sample().sort().values.tolist() == list(range(8))
    with pytest.raises(NotImplementedError, match="the 8! orders are too many to list"):
        large.enumerate_support()
    assert torch.equal(kl_divergence(fn, UniformPermutation(3)), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        UniformPermutation(0)


def test_a_temperature_leaves_it_as_it_is():
    fn = UniformPermutation(3)
    assert at_temperature(fn, 0.5) is fn


def test_vmap():
    fn = UniformPermutation(3)
    draws = fn.sample((4,))
    plain = UniformPermutation(3, validate_args=False)
    assert torch.equal(torch.func.vmap(plain.log_prob)(draws), fn.log_prob(draws))
    drawn = torch.func.vmap(lambda _: plain.sample((5,)), randomness="different")(torch.zeros(6))
    assert drawn.shape == (6, 5, 3) and fn.support.check(drawn).all()


def test_the_moments_are_those_of_all_orders():
    fn = UniformPermutation(4, (2,))
    every = fn.enumerate_support().double()
    torch.testing.assert_close(fn.mean, every.mean(0))
    torch.testing.assert_close(fn.variance, every.var(0, correction=0))
