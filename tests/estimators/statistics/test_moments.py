"""Running moments against the moments of all draws at once."""

import operator
from functools import reduce

import pytest
import torch

from pplvm.estimators.statistics.moments import Covariance, Moments


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


def test_draws_at_once_are_the_draws_one_by_one():
    draws = 3 + torch.randn(30, 4).exp()
    for kind, names in ((Moments, ("variance",)), (Covariance, ("matrix", "freedom"))):
        one_by_one, at_once = drawn(kind(4), draws), kind.of(draws[:20]) + kind.of(draws[20:])
        assert at_once.count == 30 and torch.allclose(at_once.mean, one_by_one.mean, rtol=1e-13)
        assert all(torch.allclose(getattr(at_once, n), getattr(one_by_one, n), rtol=1e-10) for n in names)


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


def drawn(moments, draws):
    for draw in draws:
        moments.add(draw)
    return moments


@pytest.mark.parametrize("counts", [(60, 90), (1, 149), (40, 0, 110), (0, 150)])
def test_moments_of_parts_add_up_to_those_of_the_whole(counts):
    """Of parts that differ in their means, which a sum of their squares would miss; skewed and far from zero."""
    far = torch.arange(150.0).unsqueeze(1) / 20
    draws = 100 + far + torch.randn(150, 4).exp()
    for make, values in ((lambda: Moments(4), draws), (lambda: Covariance(4), draws)):
        whole = drawn(make(), values)
        parts = [drawn(make(), part) for part in values.split(counts)]
        found = reduce(operator.add, parts)
        assert found.count == 150 and torch.allclose(found.mean, whole.mean, rtol=1e-13)
        for name in ("variance", "standard_error") if isinstance(whole, Moments) else ("matrix", "freedom"):
            assert torch.allclose(getattr(found, name), getattr(whole, name), rtol=1e-10), name


def test_what_is_added_stays_as_it_was():
    one, two = drawn(Covariance(2), torch.randn(5, 2)), drawn(Covariance(2), torch.randn(7, 2))
    before = one.mean.clone(), one.matrix.clone(), two.matrix.clone()
    assert (one + two).count == 12
    assert one.count == 5 and all(
        torch.equal(a, b) for a, b in zip(before, (one.mean, one.matrix, two.matrix), strict=True)
    )
