"""Mixtures of discretized logistics: exact sums over grey values and colours, and draws from what they tell."""

import itertools
import math

import pyro
import pytest
import torch
from pyro.ops.provenance import track_provenance

from pplvm.distributions.discretized_logistic import DiscretizedLogistic
from pplvm.distributions.discretized_logistic_mixture import DiscretizedLogisticMixture, DiscretizedLogisticMixtureRGB


def grey(levels=17, components=3):
    logits = torch.randn(4, components)
    return DiscretizedLogisticMixture(logits, levels * torch.rand(4, components), torch.rand(4, components), levels)


def rgb(levels, components=2, shape=(1, 1), batch=()):
    channels = (*batch, components, 3, *shape)
    loc, scale = (levels - 1) * torch.rand(channels), (levels / 4 * torch.randn(channels)).exp()
    logits = torch.randn(*batch, components, *shape)
    return DiscretizedLogisticMixtureRGB(logits, loc, scale, torch.randn(channels).tanh(), levels)


def colours(levels):
    """(levels^3, 3, 1, 1), all of one pixel."""
    steps = torch.arange(levels) / (levels - 1)
    return torch.tensor(list(itertools.product(steps.tolist(), repeat=3)))[:, :, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grey_values_sum_to_one(dtype):
    scale = torch.linspace(-8, 12, 63, dtype=dtype).reshape(21, 3).exp()
    fn = DiscretizedLogisticMixture(
        scale.log() / 4, torch.linspace(-50, 400, 63, dtype=dtype).reshape(21, 3), scale, 256
    )
    assert fn.log_prob(fn.enumerate_support()).logsumexp(0).abs().max() < 1e-6


def test_one_component_is_the_discretized_logistic():
    loc, scale = 16 * torch.rand(5, 1), torch.rand(5, 1)
    one, alone = DiscretizedLogisticMixture(torch.randn(5, 1), loc, scale, 17), DiscretizedLogistic(loc, scale, 17)
    values = one.enumerate_support()
    torch.testing.assert_close(one.log_prob(values), alone.log_prob(values[..., None]).squeeze(-1))
    torch.testing.assert_close(one.mean, alone.mean.squeeze(-1))


def test_a_uniform_mixture_costs_8_bits():
    """One narrow component at each of 256 levels."""
    at = torch.arange(256.0)
    fn = DiscretizedLogisticMixture(torch.zeros(784, 256), at, torch.full((256,), math.exp(-8)), 256).to_event(1)
    x = torch.randint(256, (3, 784)) / 255
    bits = -fn.log_prob(x) / 784 / math.log(2)
    torch.testing.assert_close(bits, torch.full((3,), 8.0), atol=1e-12, rtol=0)
    assert (fn.base_dist.mean - 0.5).abs().max() < 1e-12


def test_mean_and_draws():
    fn = grey()
    values, probs = fn.enumerate_support(), fn.log_prob(fn.enumerate_support()).exp()
    torch.testing.assert_close(fn.mean, (values * probs).sum(0), atol=1e-12, rtol=0)
    draws = fn.sample((20_000,))
    assert fn.support.check(draws).all()
    found = (draws[None] == values[:, None]).double().mean(1)
    assert ((found - probs).abs() <= 5 * (probs / 20_000).sqrt() + 1e-9).all()


@pytest.mark.parametrize("levels", [2, 8])
def test_colours_sum_to_one(levels):
    fn = rgb(levels)
    log_probs = fn.log_prob(colours(levels))
    assert log_probs.shape == (levels**3,)
    assert log_probs.logsumexp(0).abs() < 1e-6


def test_colours_of_a_decoupled_normalization_do_not():
    """The mean of a channel may depend on those before it, and not on itself."""

    class Circular(DiscretizedLogisticMixtureRGB):
        def log_prob(self, value):
            moved = self.loc + self.coefficients * (value.unsqueeze(-4) * (self.levels - 1) - (self.levels - 1) / 2)
            of_channels = DiscretizedLogistic(moved, self.scale, self.levels).log_prob(value.unsqueeze(-4)).sum(-3)
            return (self.logits.log_softmax(-3) + of_channels).logsumexp(-3).sum((-2, -1))

    fn = rgb(8)
    wrong = Circular(fn.logits, fn.loc, fn.scale, fn.coefficients, 8)
    assert wrong.log_prob(colours(8)).logsumexp(0).abs() > 1e-3


def test_colours_are_drawn_as_told():
    fn, n = rgb(3), 40_000
    values, probs = colours(3), fn.log_prob(colours(3)).exp()
    draws = fn.sample((n,))
    assert draws.shape == (n, 3, 1, 1) and fn.support.check(draws).all()
    found = (draws.reshape(n, 1, 3) == values.reshape(1, 27, 3)).all(-1).double().mean(0)
    assert ((found - probs).abs() <= 5 * (probs / n).sqrt() + 1e-4).all()


def test_one_component_serves_all_channels():
    """Two components, black and white: no pixel is half of each."""
    loc = torch.tensor([-50.0, 50.0])[:, None, None, None].expand(2, 3, 4, 4)
    fn = DiscretizedLogisticMixtureRGB(torch.zeros(2, 4, 4), loc, torch.ones_like(loc), torch.zeros_like(loc), 8)
    draws = fn.sample((50,))
    assert (draws == draws[:, :1]).all() and 0.3 < draws.mean() < 0.7


def test_green_follows_red_and_blue_both():
    loc, scale = torch.full((1, 3, 1, 1), 127.5), torch.full((1, 3, 1, 1), 0.01)
    scale = scale.index_fill(1, torch.tensor(0), 40.0)
    c = torch.tensor([1.0, 1.0, -1.0]).reshape(1, 3, 1, 1)
    r, g, b = DiscretizedLogisticMixtureRGB(torch.zeros(1, 1, 1), loc, scale, c, 256).sample((100,))[..., 0, 0].T
    assert (r - g).abs().max() <= 1.1 / 255 and (b - 0.5).abs().max() <= 2.1 / 255 and r.std() > 0.1


def test_slopes_are_finite_at_the_ends():
    for dtype in (torch.float32, torch.float64):
        log_scale = torch.linspace(-8, 12, 24, dtype=dtype).reshape(2, 3, 2, 2).requires_grad_()
        loc = torch.linspace(-50, 400, 24, dtype=dtype).reshape(2, 3, 2, 2).requires_grad_()
        c, logits = torch.zeros_like(loc).requires_grad_(), torch.zeros(2, 2, 2, dtype=dtype, requires_grad=True)
        fn = DiscretizedLogisticMixtureRGB(logits, loc, log_scale.exp(), c, 256)
        (fn.log_prob(torch.zeros(3, 2, 2, dtype=dtype)) + fn.log_prob(torch.ones(3, 2, 2, dtype=dtype))).backward()
        assert all(part.grad.isfinite().all() for part in (log_scale, loc, c, logits))


def test_shapes_expansion_and_plates():
    fn = grey().to_event(1)
    assert fn.expand([2, 5]).sample((3,)).shape == (3, 2, 5, 4) and fn.log_prob(fn.sample((7,))).shape == (7,)
    colour = rgb(8, shape=(2, 3), batch=(5,))
    assert colour.batch_shape == (5,) and colour.event_shape == (3, 2, 3)
    wide = colour.expand([4, 5])
    assert wide.sample((2,)).shape == (2, 4, 5, 3, 2, 3) and wide.log_prob(colour.sample()).shape == (4, 5)
    with pyro.plate("particles", 4, dim=-2), pyro.plate("batch", 5):
        assert pyro.sample("x", colour).shape == (4, 5, 3, 2, 3)


@pytest.mark.parametrize("make", [lambda: grey().to_event(1), lambda: rgb(8, shape=(2, 3), batch=(5,))])
def test_expanded_it_validates_as_before(make):
    fn = make().expand([4, 5])
    with pytest.raises(ValueError, match="levels k/"):
        fn.log_prob(fn.sample() + 0.01)


def test_every_parameter_of_colours_may_be_the_widest():
    parts = torch.randn(2, 2, 3), torch.randn(2, 3, 2, 3), torch.rand(2, 3, 2, 3) + 0.5, torch.randn(2, 3, 2, 3)
    x = torch.rand(5, 3, 2, 3).mul(7).round() / 7
    alone = DiscretizedLogisticMixtureRGB(*parts, 8).log_prob(x)
    for number in range(4):
        wide = [part.expand(5, *part.shape) if number == place else part for place, part in enumerate(parts)]
        fn = DiscretizedLogisticMixtureRGB(*wide, 8)
        assert fn.batch_shape == (5,) and fn.event_shape == (3, 2, 3) and fn.sample().shape == (5, 3, 2, 3)
        torch.testing.assert_close(fn.log_prob(x), alone)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="DiscretizedLogisticMixture: levels must be"):
        DiscretizedLogisticMixture(torch.zeros(3), torch.zeros(3), torch.ones(3), 1)
    two = torch.ones(4, 2, 8, 8)
    with pytest.raises(ValueError, match="three channels, got .4, 2, 8, 8.: use DiscretizedLogisticMixture"):
        DiscretizedLogisticMixtureRGB(torch.zeros(4, 8, 8), two, two, two, 8)
    with pytest.raises(NotImplementedError):
        _ = rgb(8).mean


@pytest.mark.parametrize("made", [grey, lambda: rgb(4, batch=(2,))])
def test_shapes_are_sizes_under_pyros_provenance(made):
    """It makes plain tuples of a tensor's shape, which programs count the numbers of."""
    fn = made()
    tracked = (track_provenance(each, frozenset({0})) for each in (fn.logits, fn.loc, fn.scale))
    rest = (fn.coefficients, fn.levels) if isinstance(fn, DiscretizedLogisticMixtureRGB) else (fn.levels,)
    found = type(fn)(*tracked, *rest)
    assert isinstance(found.batch_shape, torch.Size) and isinstance(found.event_shape, torch.Size)
