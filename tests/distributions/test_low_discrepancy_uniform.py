"""Evenly spread uniforms: each uniform by itself, a mean of far less variance, independent over particles."""

import pyro
import pyro.distributions as dist
import torch
from scipy import stats
from torch.distributions import kl_divergence

from pplvm.distributions.low_discrepancy_uniform import LowDiscrepancyUniform


def times(*shape):
    return LowDiscrepancyUniform(torch.zeros(shape), torch.ones(shape))


def test_each_value_is_uniform_and_so_are_all():
    drawn = times(4).sample((5_000,))
    for b in range(4):
        assert stats.kstest(drawn[:, b].numpy(), "uniform").pvalue > 1e-3
    assert drawn.min() >= 0 and drawn.max() < 1
    shifted = LowDiscrepancyUniform(torch.full((4,), -2.0), torch.full((4,), 3.0)).sample((5_000,))
    assert stats.kstest(shifted[:, 1].numpy(), "uniform", (-2, 5)).pvalue > 1e-3


def test_the_mean_over_the_batch_is_unbiased_and_of_far_less_variance():
    f = lambda t: (3 * t).exp()
    even, plain = (f(fn.sample((4_000,))).mean(-1) for fn in (times(16), dist.Uniform(torch.zeros(16), 1.0)))
    exact = (torch.tensor(3.0).exp() - 1) / 3
    assert (even.mean() - exact).abs() < 4 * even.std() / 4_000**0.5
    assert even.var() < plain.var() / 10


def test_particles_are_independent_and_a_permuted_batch_is_as_good():
    drawn = times(2_000, 3).sample()
    assert torch.corrcoef(torch.stack([drawn[:-1, 0], drawn[1:, 0]]))[0, 1].abs() < 4 / 2_000**0.5
    gaps = drawn.sort(-1).values.diff(dim=-1)
    torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / 3))


def test_in_a_plate_with_particles_it_is_spread_over_the_batch():
    with pyro.plate("particles", 5, dim=-2), pyro.plate("batch", 4, dim=-1):
        value = pyro.sample("time", LowDiscrepancyUniform(torch.tensor(0.0), torch.tensor(1.0)))
    assert value.shape == (5, 4)
    torch.testing.assert_close(value.sort(-1).values.diff(dim=-1), torch.full((5, 3), 0.25))
    assert value[:, 0].unique().numel() == 5


def test_its_density_is_uniform_and_its_kl_known():
    fn = times(3)
    assert torch.equal(fn.log_prob(fn.sample()), torch.zeros(3))
    grown = fn.expand([2, 3])
    assert type(grown) is LowDiscrepancyUniform and grown.sample().shape == (2, 3)
    assert torch.equal(kl_divergence(fn, fn), torch.zeros(3))
    assert times().sample((2_000,)).unique().numel() == 2_000  # independent where there is no batch


def test_vmap_and_precisions():
    drawn = torch.func.vmap(lambda _: times(4).sample(), randomness="different")(torch.arange(6))
    assert drawn.shape == (6, 4) and drawn[:, 0].unique().numel() == 6
    for dtype in (torch.float32, torch.float64):
        zeros = torch.zeros(7, dtype=dtype)
        assert LowDiscrepancyUniform(zeros, zeros + 1).sample().dtype is dtype
