"""Whole numbers with noise: density in the bin and out of it, ends, and gradients along its draws."""

import pyro.distributions as dist
import pytest
import torch

from pplvm.distributions.dequantized import Dequantized
from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.supports import contains


def uniform(D, dtype=None):
    return dist.Uniform(torch.zeros(D, dtype=dtype), torch.ones(D, dtype=dtype)).to_event(1)


def logistic_normal(loc):
    return dist.TransformedDistribution(dist.Normal(loc, 0.7).to_event(1), [ScaledSigmoid()])


def test_density_of_its_own_bin_alone():
    k = torch.tensor([[3.0, 0.0], [1.0, 7.0]])
    noise = logistic_normal(torch.randn(2, 2))
    fn, u = Dequantized(noise, k, levels=8), torch.rand(5, 2, 2)
    torch.testing.assert_close(fn.log_prob(k + u), noise.log_prob(u))
    assert torch.equal(fn.log_prob((k + u).flip(-2)), torch.full((5, 2), -torch.inf))


def test_shapes_and_support():
    fn = Dequantized(uniform(3), torch.zeros(4, 3), levels=8)
    assert fn.batch_shape == (4,) and fn.event_shape == (3,) and is_reparameterized(fn)
    wide = fn.expand([2, 4])
    assert wide.rsample((5,)).shape == (5, 2, 4, 3) and wide.log_prob(wide.rsample()).shape == (2, 4)
    assert contains(ScaledSigmoid(8.0).codomain, fn.support) and contains(fn.support, ScaledSigmoid(8.0).codomain)


@pytest.mark.parametrize("levels", [2, 3, 5, 16, 17, 255, 256, 1000])
def test_no_noise_rounds_to_the_next_level(levels):
    k = torch.arange(levels, dtype=torch.float32).unsqueeze(-1)
    for at in (0.0, 1.0):  # noise at an end, as float32 has it
        end = dist.Delta(torch.full((1,), at, dtype=torch.float32), event_dim=1)
        value = Dequantized(end, k, levels=levels).rsample()
        assert torch.equal(value.floor(), k) and (value > 0).all() and (value - k <= 1 - 2.0**-22).all()


def test_density_of_a_draw_is_that_of_its_copy():
    loc = torch.randn(4, 3, requires_grad=True)
    fn = Dequantized(logistic_normal(loc), torch.arange(12.0).reshape(4, 3), levels=16)
    v = fn.rsample()
    torch.testing.assert_close(fn.log_prob(v), fn.log_prob(v.clone()), atol=1e-9, rtol=0)
    own, copy = (torch.autograd.grad(fn.log_prob(x).sum(), loc, retain_graph=True)[0] for x in (v, v.clone()))
    torch.testing.assert_close(own, copy, atol=1e-9, rtol=0)


def test_draws_without_gradient_have_densities_with_gradient():
    loc = torch.randn(4, 3, requires_grad=True)
    fn = Dequantized(logistic_normal(loc), torch.zeros(4, 3), levels=2)
    v = fn.sample()
    assert torch.autograd.grad(fn.log_prob(v).sum(), loc)[0].abs().sum() > 0


@pytest.mark.parametrize(
    "noise, index, levels, words",
    [
        (uniform(2), torch.zeros(2), 1, "Dequantized: levels must be an integer of at least 2, .* got 1"),
        (uniform(2), torch.zeros(3), 4, r"noise of event shape \(2,\) is none for indices of shape \(3,\)"),
        (uniform(2).base_dist, torch.zeros(2), 4, r"noise of event shape \(\) is none for indices of shape \(2,\)"),
        (uniform(2), torch.tensor([0.0, 4.0]), 4, "parameter index"),
        (uniform(2), torch.tensor([0.0, 0.5]), 4, "parameter index"),
    ],
)
def test_what_is_no_dequantization_is_refused(noise, index, levels, words):
    with pytest.raises(ValueError, match=words):
        Dequantized(noise, index, levels)
