"""The power spherical distribution: density, divergence and moments against quadrature, and gradients of its draws."""

import math

import pyro
import pytest
import torch
from torch.distributions import kl_divergence

from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.spherical_uniform import SphericalUniform, log_sphere_area


def along(dim, axis=0):
    return torch.eye(dim)[axis]


def quadrature(fn, dim, function=lambda t, log_p: torch.ones_like(t), points=200_000):
    """The integral over the sphere of exp(log p) times a function of t = loc' z, by the midpoint rule in the angle."""
    angle = (torch.arange(points) + 0.5) * math.pi / points
    z = torch.zeros(points, dim)
    z[:, 0], z[:, 1] = angle.cos(), angle.sin()
    log_p = fn.log_prob(z)
    ring = log_sphere_area(dim - 1) if dim > 2 else math.log(2)
    return (
        (log_p.exp() * function(angle.cos(), log_p) * angle.sin() ** (dim - 2)).sum()
        * math.pi
        / points
        * math.exp(ring)
    )


@pytest.mark.parametrize("dim", [2, 3, 4, 10, 40])
@pytest.mark.parametrize("kappa", [0.0, 0.3, 5.0, 100.0])
def test_density_divergence_and_mean_by_quadrature(dim, kappa):
    q = PowerSpherical(along(dim), torch.tensor(kappa))
    torch.testing.assert_close(quadrature(q, dim), torch.tensor(1.0), atol=1e-8, rtol=0)
    of_uniform = -log_sphere_area(dim)
    divergence = quadrature(q, dim, lambda t, log_p: log_p - of_uniform)
    torch.testing.assert_close(kl_divergence(q, SphericalUniform(dim)), divergence, atol=1e-8, rtol=0)
    torch.testing.assert_close(q.mean[0], quadrature(q, dim, lambda t, log_p: t), atol=1e-8, rtol=0)
    torch.testing.assert_close(q.entropy() + divergence, torch.tensor(log_sphere_area(dim)), atol=1e-8, rtol=0)


def test_without_concentration_it_is_uniform():
    for dim in (2, 3, 10):
        q, z = PowerSpherical(along(dim), torch.zeros(())), SphericalUniform(dim).sample((100,))
        assert kl_divergence(q, SphericalUniform(dim)).abs() < 1e-12
        torch.testing.assert_close(q.log_prob(z), SphericalUniform(dim).log_prob(z), atol=1e-12, rtol=0)
        assert torch.equal(q.mean, torch.zeros(dim))


def test_rates_of_the_literature():
    """kappa = 100: 8.61 nats for d = 10 and 14.4 for d = 40."""
    for dim, rate in ((10, 8.61), (40, 14.4)):
        q = PowerSpherical(along(dim), torch.tensor(100.0))
        assert abs(float(kl_divergence(q, SphericalUniform(dim))) - rate) < 0.05


def test_the_rate_is_the_same_for_every_direction():
    loc = SphericalUniform(10).sample((50,))
    rates = kl_divergence(PowerSpherical(loc, torch.tensor(100.0)), SphericalUniform(10, (50,)))
    assert rates.shape == (50,) and rates.std() == 0


@pytest.mark.parametrize("dim", [2, 3, 10])
@pytest.mark.parametrize("kappa", [0.5, 30.0])
def test_draws(dim, kappa):
    """Their mean is (a - b) / (a + b) loc, they lie about loc evenly, and (1 + loc' z) / 2 is Beta(a, b)."""
    loc, n = SphericalUniform(dim).sample(), 40_000
    q = PowerSpherical(loc, torch.tensor(kappa))
    z = q.sample((n,))
    assert q.support.check(z).all() and not z.requires_grad
    assert ((z.mean(0) - q.mean).abs() <= 4 * z.std(0) / n**0.5).all()
    b = (dim - 1) / 2
    share, beta = (1 + z @ loc) / 2, torch.distributions.Beta(b + kappa, b)
    assert abs(share.mean() - beta.mean) < 4 * (beta.variance / n).sqrt()
    assert abs(share.var() - beta.variance) < 0.05 * beta.variance
    expected = -q.entropy()
    log_p = q.log_prob(z)
    assert (log_p.mean() - expected).abs() < 4 * log_p.std() / n**0.5


def gradients(q_of, loc, kappa, f, n=100_000):
    """Draws of the gradient of E f(z) by loc, along the sphere, and by kappa."""
    locs = loc.expand(n, -1).clone().requires_grad_()
    kappas = kappa.expand(n).clone().requires_grad_()
    f(q_of(locs, kappas).rsample()).sum().backward()
    return locs.grad - (locs.grad @ loc)[:, None] * loc, kappas.grad


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_gradients_along_draws_are_those_of_the_mean(dim):
    """Of f = c' z, whose mean is (a - b) / (a + b) c' loc, at loc = (1, 0, ..., 0) too."""
    c, kappa = torch.randn(dim), torch.tensor(4.0)
    for loc in (along(dim), SphericalUniform(dim).sample()):
        of_loc, of_kappa = gradients(PowerSpherical, loc, kappa, lambda z: z @ c)
        b = (dim - 1) / 2
        length = kappa / (2 * b + kappa)
        expected = length * (c - (c @ loc) * loc)
        assert ((of_loc.mean(0) - expected).abs() <= 4 * of_loc.std(0) / len(of_loc) ** 0.5 + 1e-12).all()
        by_kappa = 2 * b / (2 * b + kappa) ** 2 * (c @ loc)
        assert (of_kappa.mean() - by_kappa).abs() <= 4 * of_kappa.std() / len(of_kappa) ** 0.5


def test_a_tangent_that_does_not_turn_gives_another_gradient():
    class Still(PowerSpherical):
        def rsample(self, sample_shape=()):
            fixed = PowerSpherical(self.loc.detach(), self.concentration).rsample(sample_shape)
            t = (fixed * self.loc.detach()).sum(-1, keepdim=True)
            return fixed + t * (self.loc - self.loc.detach())

    c, loc, kappa = torch.randn(3), along(3), torch.tensor(4.0)
    f = lambda z: (z @ c) ** 2
    right, wrong = (gradients(kind, loc, kappa, f)[0] for kind in (PowerSpherical, Still))
    error = (right.var(0) + wrong.var(0)).sqrt() / len(right) ** 0.5
    assert ((right.mean(0) - wrong.mean(0)).abs() > 10 * error)[1:].any()
    step, n = 1e-3, 400_000  # finite differences on the same t and the density itself
    z = PowerSpherical(loc, kappa).sample((n,))
    moved = torch.nn.functional.normalize(loc + step * along(3, 1), dim=-1)
    ratio = (PowerSpherical(moved, kappa).log_prob(z) - PowerSpherical(loc, kappa).log_prob(z)) / step
    score = f(z) * ratio
    assert (score.mean() - right.mean(0)[1]).abs() < 4 * score.std() / n**0.5 + 0.02


def test_gradients_are_bounded():
    """On the sphere of d = 3 a projection of the same noise has gradients of infinite variance."""
    loc = along(3).expand(100_000, -1).clone().requires_grad_()
    PowerSpherical(loc, torch.tensor(4.0)).rsample()[:, 1].sum().backward()
    assert loc.grad.abs().max() < 3


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 1e4, 1e6])
def test_float32_keeps_the_digits_of_float64(kappa):
    loc = SphericalUniform(10).sample((200,))
    in64 = PowerSpherical(loc, torch.tensor(kappa))
    in32 = PowerSpherical(loc.float(), torch.tensor(kappa, dtype=torch.float32))
    z = in32.rsample()
    assert z.dtype is torch.float32 and in32.support.check(z).all()
    exact = PowerSpherical(torch.nn.functional.normalize(loc.float().double(), dim=-1), torch.tensor(kappa))
    error = in32.log_prob(z).double() - exact.log_prob(torch.nn.functional.normalize(z.double(), dim=-1))
    assert error.abs().max() < 1e-3 * (1 + math.log1p(kappa))
    uniform = SphericalUniform(10, dtype=torch.float32)
    divergence = kl_divergence(in32, uniform)
    assert divergence.dtype is torch.float32
    torch.testing.assert_close(divergence.double(), kl_divergence(in64, uniform), atol=1e-5, rtol=1e-5)


def test_opposite_points_have_finite_slopes():
    loc, kappa = along(3).requires_grad_(), torch.tensor(5.0, requires_grad=True)
    z = torch.stack([-along(3), along(3)])
    log_p = PowerSpherical(loc, kappa).log_prob(z)
    log_p.sum().backward()
    assert log_p.isfinite().all() and loc.grad.isfinite().all() and kappa.grad.isfinite()


def test_shapes_expansion_and_plates():
    q = PowerSpherical(along(4).expand(5, 1, 4), torch.rand(3))
    assert q.batch_shape == (5, 3) and q.event_shape == (4,)
    assert q.rsample((2,)).shape == (2, 5, 3, 4) and q.mean.shape == q.mode.shape == (5, 3, 4)
    wide = q.expand([7, 5, 3])
    assert wide.rsample().shape == (7, 5, 3, 4) and wide.log_prob(q.rsample()).shape == (7, 5, 3)
    assert q.to_event(1).log_prob(q.sample()).shape == (5,)
    with pyro.plate("particles", 6, dim=-2), pyro.plate("batch", 3):
        assert pyro.sample("z", PowerSpherical(along(4), torch.rand(3))).shape == (6, 3, 4)


def test_vmap():
    kappa, loc = torch.rand(5), SphericalUniform(4).sample((5,))
    z = SphericalUniform(4).sample((5,))
    one = lambda l, k, v: PowerSpherical(l, k, validate_args=False).log_prob(v)
    torch.testing.assert_close(torch.func.vmap(one)(loc, kappa, z), one(loc, kappa, z))
    draw = lambda l, k: PowerSpherical(l, k, validate_args=False).rsample()
    drawn = torch.func.vmap(draw, randomness="different")(loc, kappa)
    assert torch.allclose(drawn.norm(dim=-1), torch.ones(5))


def test_what_it_refuses():
    with pytest.raises(ValueError, match="at least 2 coordinates, got 1"):
        PowerSpherical(torch.ones(1), torch.ones(()))
    with pytest.raises(ValueError, match="concentration"):
        PowerSpherical(along(3), torch.tensor(-1.0))
    with pytest.raises(ValueError, match="loc"):
        PowerSpherical(torch.ones(3), torch.ones(()))
    with pytest.raises(ValueError, match="spheres of 3 and 4 coordinates"):
        kl_divergence(PowerSpherical(along(3), torch.ones(())), SphericalUniform(4))
