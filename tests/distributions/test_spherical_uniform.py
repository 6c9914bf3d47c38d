"""The uniform distribution on the sphere, as a prior: area, draws, and divergences that objectives find."""

import math

import pyro
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from pplvm.bounds import elbo
from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.spherical_uniform import SphericalUniform, log_sphere_area
from pplvm.distributions.von_mises_fisher import VonMisesFisher
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.particles.draw import draw_particles
from pplvm.particles.supports import contains


def test_areas():
    for dim, area in ((2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)):
        assert math.isclose(math.exp(log_sphere_area(dim)), area, rel_tol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 20])
def test_draws(dim):
    fn, n = SphericalUniform(dim), 40_000
    z = fn.sample((n,))
    assert fn.support.check(z).all()
    assert (z.mean(0).abs() <= 4 / (dim * n) ** 0.5).all()
    second = z.T @ z / n
    assert (second - torch.eye(dim) / dim).abs().max() < 0.02
    assert torch.equal(fn.log_prob(z), torch.full((n,), -log_sphere_area(dim)))


def test_shapes_dtypes_and_supports():
    fn = SphericalUniform(3, dtype=torch.float32).expand([4, 5])
    assert fn.batch_shape == (4, 5) and fn.event_shape == (3,) and fn.entropy().shape == (4, 5)
    assert fn.rsample((2,)).dtype is fn.log_prob(fn.rsample()).dtype is torch.float32
    assert fn.log_prob(fn.rsample((2,))).shape == (2, 4, 5) and fn.mean.shape == (4, 5, 3)
    assert contains(fn.support, PowerSpherical(torch.eye(3)[0], torch.ones(())).support)
    assert kl_divergence(fn, SphericalUniform(3)).shape == (4, 5)
    with pytest.raises(RuntimeError, match="expanded size"):
        fn.expand([4, 2])
    with pytest.raises(ValueError, match="at least 2 coordinates, got 1"):
        SphericalUniform(1)


class OnSphere(nn.Module):
    """z on the sphere, or n such vectors, and a normal observation of it."""

    def __init__(self, family, vectors):
        super().__init__()
        self.encoder, self.family, self.vectors = nn.Linear(3, 3), family, vectors

    def prior(self):
        return SphericalUniform(3).expand([self.vectors]).to_event(1) if self.vectors else SphericalUniform(3)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.prior())
            mean = z.mean(-2) if self.vectors else z
            pyro.sample("x", pyro.distributions.Normal(mean, 0.5).to_event(1), obs=x)

    def guide(self, x):
        loc = nn.functional.normalize(self.encoder(x), dim=-1)
        if self.vectors:
            loc = loc.unsqueeze(-2).expand(-1, self.vectors, -1)
        q = self.family(loc, torch.tensor(7.0))
        with pyro.plate("batch", len(x)):
            pyro.sample("z", q.to_event(1) if self.vectors else q)


@pytest.mark.parametrize("family", [PowerSpherical, VonMisesFisher])
@pytest.mark.parametrize("vectors", [0, 4])
@pytest.mark.parametrize("K", [1, 3])
def test_objectives_find_the_divergence(family, vectors, K):
    program, x = OnSphere(family, vectors), torch.randn(5, 3)
    found = closed_forms(draw_particles(program.model, program.guide, x, num_particles=K))
    one = kl_divergence(family(torch.eye(3)[0], torch.tensor(7.0)), SphericalUniform(3))
    expected = one * max(1, vectors)
    torch.testing.assert_close(found["z"].broadcast_to(K, 5), expected.expand(K, 5))


@pytest.mark.parametrize("family", [PowerSpherical, VonMisesFisher])
def test_a_divergence_in_closed_form_is_the_drawn_one(family):
    program, x, n = OnSphere(family, 0), torch.randn(5, 3), 4000
    drawn = draw_particles(program.model, program.guide, x, num_particles=n)
    log_ratio = drawn.log_q_sites["z"] - drawn.log_p_sites["z"]  # (n, B)
    closed = closed_forms(drawn)["z"]
    assert ((log_ratio.mean(0) - closed).abs() <= 4 * log_ratio.std(0) / n**0.5).all()
    with torch.no_grad():
        values = [Loss(kind, program)(x) for kind in (AnalyticKL(n), Pathwise(elbo, n))]
    assert (values[0] - values[1]).abs() < 0.2
