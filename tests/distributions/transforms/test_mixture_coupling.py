"""The mixture-CDF coupling: its bisection inverse, the implicit gradient, tails, and its density."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.distributions.transforms.mixture_coupling import (
    MixtureCoupling,
    logit_of_mixture,
    quantile_of_mixture,
)
from pplvm.distributions.transforms.permutation import Permutation

M = 3


def a_mixture(*shape):
    return torch.randn(*shape[:-1], M, shape[-1]).log_softmax(-2), *(2 * torch.randn(2, *shape[:-1], M, shape[-1]))


def test_bisection_finds_the_quantile_also_of_modes_far_apart():
    b = 10 * torch.randn(50, 4)
    mixture = a_mixture(50, 4)
    logit, _ = logit_of_mixture(b, *mixture)
    again, _ = logit_of_mixture(quantile_of_mixture(logit, *mixture), *mixture)
    torch.testing.assert_close(again, logit, atol=1e-7, rtol=1e-9)


def test_the_slope_is_that_of_autograd():
    b, mixture = torch.randn(20, 4, requires_grad=True), a_mixture(20, 4)
    logit, log_slope = logit_of_mixture(b, *mixture)
    (slope,) = torch.autograd.grad(logit.sum(), b)
    torch.testing.assert_close(log_slope.exp(), slope)


def test_the_gradient_of_the_inverse_is_implicit():
    """By finite differences of the whole inverse, in its target and in the mixture; a bisection alone has none."""
    logit, mixture = torch.randn(3, 2), a_mixture(3, 2)
    leaves = [each.requires_grad_() for each in (logit, *mixture)]
    assert torch.autograd.gradcheck(
        lambda t, *parts: quantile_of_mixture(t, parts[0].log_softmax(-2), *parts[1:]), leaves, eps=1e-6, atol=1e-5
    )
    assert not quantile_of_mixture(logit.detach(), *(each.detach() for each in mixture)).requires_grad


def test_in_both_tails_float32_is_that_of_float64():
    mixture = a_mixture(1, 1)
    b = torch.tensor([-1e4, -300.0, -30.0, 30.0, 300.0, 1e4])[:, None]
    wide = logit_of_mixture(b, *mixture)
    narrow = logit_of_mixture(b.float(), *(each.float() for each in mixture))
    for one, other in zip(narrow, wide, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("far", [30.0, 1e3, 1e6])
def test_the_inverse_is_one_far_in_the_tails(dtype, tolerance, far):
    mixture = [each.to(dtype) for each in a_mixture(50, 4)]
    b = (far * (1 + torch.rand(50, 4)) * torch.randn(50, 4).sign()).to(dtype)
    logit, log_slope = logit_of_mixture(b, *mixture)
    again = quantile_of_mixture(logit.requires_grad_(), *mixture)
    torch.testing.assert_close(again, b, rtol=tolerance, atol=0)
    (slope,) = torch.autograd.grad(again.sum(), logit)
    torch.testing.assert_close(slope, (-log_slope).exp(), rtol=1e4 * tolerance, atol=0)


def test_gradients_are_finite_far_out():
    b = torch.tensor([[-1e4], [1e4]], dtype=torch.float32, requires_grad=True)
    mixture = [each.float().requires_grad_() for each in a_mixture(1, 1)]
    sum(each.sum() for each in logit_of_mixture(b, *mixture)).backward()
    assert all(each.grad.isfinite().all() for each in (b, *mixture))


def test_one_component_is_affine():
    coupling = MixtureCoupling(lambda a: torch.tensor([0.3, 0.5, -0.4, 0.7, 0.2]), size=2, num_components=1)
    x = torch.randn(6, 2)
    bounded = lambda raw: 5 * (torch.tensor(raw) / 5).tanh()
    y = (x[:, 1] - 0.5) * (-bounded(-0.4)).exp() * bounded(0.2).exp() + 0.7
    torch.testing.assert_close(coupling(x), torch.stack([x[:, 0], y], -1))


def test_a_flow_of_its_inverses_integrates_to_one():
    torch.manual_seed(2)
    networks = [nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 3 * M + 2)) for _ in range(2)]
    flip = torch.tensor([1, 0])
    chain = [t for net in networks for t in (MixtureCoupling(net, 2, M), Permutation(flip))]
    noise = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    fn = dist.TransformedDistribution(noise, [t.inv for t in reversed(chain)])
    line = torch.linspace(-20, 20, 601)
    with torch.no_grad():
        total = fn.log_prob(torch.cartesian_prod(line, line)).exp().sum() * (line[1] - line[0]) ** 2
    assert abs(total - 1) < 1e-4
    z = fn.rsample((5,))
    torch.testing.assert_close(fn.log_prob(z.clone()), fn.log_prob(z), atol=1e-9, rtol=0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="MixtureCoupling: size must be at least 2"):
        MixtureCoupling(nn.Linear(1, 1), 1)
    with pytest.raises(ValueError, match="num_components must be at least 1 and bound positive, got 0 and 5"):
        MixtureCoupling(nn.Linear(2, 1), 4, num_components=0)
    with pytest.raises(ValueError, match="the network must give 14 numbers for each of the 2 coordinates"):
        MixtureCoupling(nn.Linear(2, 4), 4)(torch.zeros(4))
