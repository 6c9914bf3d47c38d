"""The discretized logistic: its probabilities sum to one, its moments are those of its draws, its slopes are finite."""

import pyro
import pytest
import torch

from pplvm.distributions.discretized_logistic import DiscretizedLogistic


def grid(dtype, levels=256):
    """Scales and means from far below the finest to far beyond the range."""
    log_scale = torch.linspace(-8, 12, 21, dtype=dtype)[:, None]
    return torch.linspace(-50, 400, 46, dtype=dtype)[None] * (levels - 1) / 255, log_scale.exp()


def log_sum(fn):
    return fn.log_prob(fn.enumerate_support()).logsumexp(0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_probabilities_sum_to_one(dtype, tolerance, levels):
    fn = DiscretizedLogistic(*grid(dtype, levels), levels)
    assert log_sum(fn).dtype is dtype
    assert log_sum(fn).abs().max() < tolerance


class Thresholded(DiscretizedLogistic):
    """The density in place of probabilities below 1e-5, as in PixelCNN++."""

    def log_prob(self, value):
        k = value * (self.levels - 1)
        a, b = (k + 0.5 - self.loc) / self.scale, (k - 0.5 - self.loc) / self.scale
        mid, mass = (k - self.loc) / self.scale, a.sigmoid() - b.sigmoid()
        density = -mid - self.scale.log() - 2 * torch.nn.functional.softplus(-mid)
        inside = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), density)
        ends = torch.where(k == 0, torch.nn.functional.logsigmoid(a), torch.nn.functional.logsigmoid(-b))
        return torch.where((k == 0) | (k == self.levels - 1), ends, inside)


@pytest.mark.parametrize(("kind", "is_exact"), [(DiscretizedLogistic, True), (Thresholded, False)])
def test_it_is_the_rounded_and_clamped_logistic(kind, is_exact):
    """Differences of the logistic function, taken in the tail where they do not cancel."""
    loc, scale = torch.tensor([-3.0, 0.2, 7.6, 30.0]), torch.tensor([2.0, 0.3, 0.12, 5.0])
    fn = kind(loc, scale, 17)
    k = torch.arange(17.0)[:, None]
    a, b = (k + 0.5 - loc) / scale, (k - 0.5 - loc) / scale
    a, b = torch.where(k == 16, torch.inf, a), torch.where(k == 0, -torch.inf, b)
    expected = torch.where(a + b < 0, a.sigmoid() - b.sigmoid(), (-b).sigmoid() - (-a).sigmoid()).log()
    error = (fn.log_prob(k / 16) - expected).abs().max()
    assert error < 1e-9 if is_exact else error > 0.5


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_mean_and_draws(levels):
    loc, scale = torch.tensor([-0.2, 0.4, 1.5]) * (levels - 1), torch.tensor([0.02, 0.3, 0.1]) * (levels - 1)
    fn = DiscretizedLogistic(loc, scale, levels)
    values, probs = fn.enumerate_support(), fn.log_prob(fn.enumerate_support()).exp()
    torch.testing.assert_close(fn.mean, (values * probs).sum(0), atol=1e-12, rtol=0)
    draws = fn.sample((40_000,))
    assert fn.support.check(draws).all() and draws.shape == (40_000, 3)
    error = draws.std(0) / 40_000**0.5
    assert ((draws.mean(0) - fn.mean).abs() <= 4 * error + 1e-9).all()
    found = (draws[:, 1, None] == values[:, 1]).double().mean(0)
    assert ((found - probs[:, 1]).abs() <= 5 * (probs[:, 1] / 40_000).sqrt() + 1e-9).all()


def test_a_mean_in_chunks_is_the_same(monkeypatch):
    fn = DiscretizedLogistic(torch.randn(7) * 100, torch.rand(7) * 30, 256)
    whole = fn.mean
    monkeypatch.setattr("pplvm.distributions.discretized_logistic.TERMS_AT_ONCE", 20)
    torch.testing.assert_close(fn.mean, whole, atol=1e-14, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slopes_are_finite_everywhere(dtype):
    loc, scale = (part.contiguous().requires_grad_() for part in torch.broadcast_tensors(*grid(dtype)))
    fn = DiscretizedLogistic(loc, scale, 256)
    fn.log_prob(fn.enumerate_support()).sum().backward()
    assert loc.grad.isfinite().all() and scale.grad.isfinite().all()


def test_slopes_are_those_of_finite_differences():
    loc, scale = torch.tensor([-1.0, 3.3, 20.0], requires_grad=True), torch.tensor([0.5, 2.0, 3.0], requires_grad=True)
    values = torch.tensor([0.0, 4 / 16, 1.0])
    assert torch.autograd.gradcheck(lambda l, s: DiscretizedLogistic(l, s, 17).log_prob(values), (loc, scale))


def test_shapes_expansion_and_events():
    fn = DiscretizedLogistic(torch.zeros(3, 1), torch.ones(4), 17)
    assert fn.batch_shape == (3, 4) and fn.event_shape == () and not fn.has_rsample
    wide = fn.expand([5, 3, 4])
    assert wide.batch_shape == (5, 3, 4) and wide.mean.shape == (5, 3, 4) and wide.sample((2,)).shape == (2, 5, 3, 4)
    assert fn.to_event(1).log_prob(fn.sample()).shape == (3,) and fn.to_event(1).support.is_discrete
    assert fn.enumerate_support(expand=False).shape == (17, 1, 1)
    with pyro.plate("batch", 4):
        assert pyro.sample("x", DiscretizedLogistic(torch.tensor(0.0), torch.tensor(1.0), 3)).shape == (4,)


def test_expanded_it_validates_as_before():
    fn, between = DiscretizedLogistic(torch.zeros(4), torch.ones(4), 17), torch.full((4,), 0.5 + 1 / 64)
    for each in (fn.expand([3, 4]), fn.to_event(1).expand([3])):
        with pytest.raises(ValueError, match="17 levels k/16"):
            each.log_prob(between)
    off = DiscretizedLogistic(torch.zeros(4), torch.ones(4), 17, validate_args=False)
    assert off.expand([3, 4]).log_prob(between).shape == (3, 4)


def test_vmap():
    loc, value = torch.randn(5, 3), torch.rand(5, 3).mul(16).round() / 16
    one = lambda l, v: DiscretizedLogistic(l, torch.ones(()), 17, validate_args=False).log_prob(v)
    torch.testing.assert_close(torch.func.vmap(one)(loc, value), one(loc, value))


def test_what_it_refuses():
    for levels in (1, 0, 2.5, True, None):
        with pytest.raises(ValueError, match="levels must be an integer of at least 2, .* got"):
            DiscretizedLogistic(torch.zeros(()), torch.ones(()), levels)
    with pytest.raises(ValueError, match="scale"):
        DiscretizedLogistic(torch.zeros(()), torch.zeros(()), 17)
    with pytest.raises(ValueError, match="the 17 levels k/16"):
        DiscretizedLogistic(torch.zeros(()), torch.ones(()), 17).log_prob(torch.tensor(0.5 + 1 / 64))
