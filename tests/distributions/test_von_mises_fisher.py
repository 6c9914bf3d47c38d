"""Von Mises-Fisher for d = 3: draws against their distribution function, divergence against quadrature."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from pplvm.distributions.spherical_uniform import SphericalUniform
from pplvm.distributions.von_mises_fisher import VonMisesFisher
from tests.distributions.test_power_spherical import along, gradients, quadrature


@pytest.mark.parametrize("kappa", [1e-3, 0.3, 5.0, 100.0])
def test_density_divergence_and_mean_by_quadrature(kappa):
    q = VonMisesFisher(along(3), torch.tensor(kappa))
    torch.testing.assert_close(quadrature(q, 3), torch.tensor(1.0), atol=1e-8, rtol=0)
    divergence = quadrature(q, 3, lambda t, log_p: log_p + math.log(4 * math.pi))
    torch.testing.assert_close(kl_divergence(q, SphericalUniform(3)), divergence, atol=1e-8, rtol=0)
    torch.testing.assert_close(q.mean[0], quadrature(q, 3, lambda t, log_p: t), atol=1e-8, rtol=0)
    torch.testing.assert_close(q.entropy() + divergence, torch.tensor(math.log(4 * math.pi)), atol=1e-8, rtol=0)


def cdf(kappa, scale=1.0):
    """Of t = loc' z."""
    k = kappa * scale
    return lambda t: (
        (1 - math.exp(-2 * k) - 1 + torch.exp(k * (torch.as_tensor(t) - 1))).numpy() / (1 - math.exp(-2 * k))
    )


@pytest.mark.parametrize("kappa", [0.1, 2.0, 50.0])
def test_draws(kappa):
    loc, n = SphericalUniform(3).sample(), 20_000
    q = VonMisesFisher(loc, torch.tensor(kappa))
    z = q.sample((n,))
    assert q.support.check(z).all()
    t = z @ loc
    assert stats.kstest(t.numpy(), cdf(kappa)).pvalue > 1e-3
    assert stats.kstest(t.numpy(), cdf(kappa, 1.1 if kappa > 1 else 3)).pvalue < 1e-3  # of another concentration
    assert ((z.mean(0) - q.mean).abs() <= 4 * z.std(0) / n**0.5).all()
    first = torch.linalg.cross(loc, along(3), dim=-1)
    second = torch.linalg.cross(loc, first, dim=-1)
    angle = torch.atan2(z @ (second / second.norm()), z @ (first / first.norm()))
    assert stats.kstest(angle.numpy(), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_gradients_along_draws_are_those_of_the_mean():
    c, kappa = torch.randn(3), torch.tensor(4.0)
    length = lambda k: 1 / torch.tanh(k) - 1 / k
    slope = torch.func.grad(length)(kappa)
    for loc in (along(3), SphericalUniform(3).sample()):
        of_loc, of_kappa = gradients(VonMisesFisher, loc, kappa, lambda z: z @ c)
        expected = length(kappa) * (c - (c @ loc) * loc)
        assert ((of_loc.mean(0) - expected).abs() <= 4 * of_loc.std(0) / len(of_loc) ** 0.5 + 1e-12).all()
        assert (of_kappa.mean() - slope * (c @ loc)).abs() <= 4 * of_kappa.std() / len(of_kappa) ** 0.5
        assert of_loc.abs().max() < 5 * c.norm()


@pytest.mark.parametrize("kappa", [1e-2, 1.0, 1e4, 1e6])
def test_float32_keeps_the_digits_of_float64(kappa):
    loc = torch.nn.functional.normalize(torch.randn(200, 3, dtype=torch.float32), dim=-1)
    in32 = VonMisesFisher(loc, torch.tensor(kappa, dtype=torch.float32, requires_grad=True))
    z = in32.rsample()
    assert z.dtype is torch.float32 and in32.support.check(z).all()
    in64 = VonMisesFisher(torch.nn.functional.normalize(loc.double(), dim=-1), torch.tensor(kappa))
    exact = in64.log_prob(torch.nn.functional.normalize(z.double(), dim=-1))
    assert (in32.log_prob(z).double() - exact).abs().max() < 1e-3 * (1 + math.log1p(kappa))
    divergence = kl_divergence(in32, SphericalUniform(3, dtype=torch.float32))
    torch.testing.assert_close(divergence.double(), kl_divergence(in64, SphericalUniform(3)), atol=1e-5, rtol=1e-5)
    (z.sum() + divergence.sum() + in32.log_prob(z).sum()).backward()
    assert in32.concentration.requires_grad


def test_shapes_and_vmap():
    q = VonMisesFisher(along(3).expand(5, 1, 3), 0.1 + torch.rand(4))
    assert q.batch_shape == (5, 4) and q.expand([2, 5, 4]).rsample((3,)).shape == (3, 2, 5, 4, 3)
    assert q.to_event(2).log_prob(q.sample()).shape == () and q.mean.shape == (5, 4, 3)
    loc, kappa = SphericalUniform(3).sample((5,)), 0.1 + torch.rand(5)
    draw = lambda l, k: VonMisesFisher(l, k, validate_args=False).rsample()
    assert torch.func.vmap(draw, randomness="different")(loc, kappa).shape == (5, 3)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="must have 3 coordinates, .* got 4: use PowerSpherical"):
        VonMisesFisher(along(4), torch.ones(()))
    with pytest.raises(ValueError, match="concentration"):
        VonMisesFisher(along(3), torch.zeros(()))
    with pytest.raises(ValueError, match="spheres of 3 and 4 coordinates"):
        kl_divergence(VonMisesFisher(along(3), torch.ones(())), SphericalUniform(4))
