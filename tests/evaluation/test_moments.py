"""Running moments against the moments of all draws at once."""

import torch

from pplvm.evaluation.moments import Covariance, CrossCovariance, Moments


def test_moments_are_those_of_all_draws():
    draws = torch.randn(200, 3) * torch.tensor([1.0, 1e-3, 1e3]) + 1e4
    moments, covariance = Moments(3), Covariance(3)
    for draw in draws:
        moments.add(draw)
        covariance.add(draw)
    assert torch.allclose(moments.mean, draws.mean(0)) and torch.allclose(covariance.mean, draws.mean(0))
    assert torch.allclose(moments.variance, draws.var(0), rtol=1e-6)
    assert torch.allclose(covariance.matrix, torch.cov(draws.T), rtol=1e-6)
    assert torch.allclose(moments.standard_error, draws.std(0) / 200**0.5, rtol=1e-6)


def test_no_variance_before_the_second_draw():
    moments = Moments(2)
    moments.add(torch.ones(2))
    assert moments.variance.isnan().all()


def test_float32_draws_are_summed_in_float64():
    moments = Moments(1)
    for _ in range(1000):
        moments.add(torch.tensor([16777217.0], dtype=torch.float64).float())
        moments.add(torch.tensor([16777218.0]).float())
    assert moments.mean.dtype is torch.float64
    assert abs(float(moments.mean) - 16777217.0) < 1e-6  # the mean of 2^24 and 2^24 + 2


def test_traces_of_covariances_are_those_of_all_draws_at_once():
    common = torch.randn(150, 1, 4)
    draws = 100 + common * torch.tensor([1.0, -2.0, 0.0]).reshape(1, 3, 1) + torch.randn(150, 3, 4)
    crossed = CrossCovariance(3, 4)
    for draw in draws:
        crossed.add(draw.float())
    each = torch.stack([torch.cov(draws[:, :, p].T) for p in range(4)])  # (P, E, E)
    assert torch.allclose(crossed.traces, each.sum(0), rtol=1e-5, atol=1e-4)
    assert crossed.traces.dtype is torch.float64 and torch.allclose(crossed.traces, crossed.traces.T)


def test_freedom_is_that_of_the_tails():
    """Fewer for a rare event than for normal draws, as the variance of a sample variance is larger."""
    torch.manual_seed(0)
    n = 4000
    draws = torch.stack([torch.randn(n), (torch.rand(n) < 0.01).double(), torch.full((n,), 2.0)], 1)
    found = Covariance(3)
    for draw in draws:
        found.add(draw)
    centred = draws - draws.mean(0)
    kurtosis = centred.pow(4).mean(0) / centred.square().mean(0).square()
    assert torch.allclose(found.matrix, torch.cov(draws.T))
    assert torch.allclose(found.freedom[:2], (2 * n / (kurtosis - 1)).clamp(max=n - 1)[:2])
    assert 0.8 * n < found.freedom[0] <= n - 1 and found.freedom[1] < 0.05 * n
