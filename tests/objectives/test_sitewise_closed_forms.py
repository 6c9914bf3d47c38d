"""Variances and derivatives of the site-wise rules against forms derived by hand (notes D1, D2)."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo
from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.biased import BiasedStraightThrough
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.site_draw import SiteDraw
from pplvm.particles.pair import pair_up
from tests.noise import exact_with_noise, legendre
from tests.problems import BernoulliToy, Forced, Quadratic, exact_moments, per_row_gradients

DATUM = torch.zeros(1, 1)


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.83])
@pytest.mark.parametrize("t", [0.45, 0.1])
def test_bernoulli_toy(theta, t, monkeypatch):
    """D2, exactly, draws and noise: the rules in the order of their variance."""
    toy = BernoulliToy(math.log(theta / (1 - theta)), t)
    v, m, gap = theta * (1 - theta), min(theta, 1 - theta), 1 - 2 * t

    mean, of_arm = exact_with_noise(ARM(), toy, DATUM, 3, monkeypatch)
    assert float(mean) == pytest.approx(v * gap, abs=1e-14)
    assert float(of_arm) == pytest.approx(gap**2 * (1 / 12 - 2 / 3 * (0.5 - m) ** 3 - v**2), abs=1e-14)

    for rule in (DisARM(), ARMS(2)):
        mean, of_disarm = exact_with_noise(rule, toy, DATUM, 1, monkeypatch)
        assert float(mean) == pytest.approx(v * gap, abs=1e-14)
        assert float(of_disarm) == pytest.approx(gap**2 * m * (1 - m) ** 2 * (0.5 - m), abs=1e-14)

    two = float(exact_moments(LeaveOneOut(elbo, 2), toy, DATUM)[1])
    assert float(of_disarm) <= min(float(of_arm), two) + 1e-15

    for rule in (LocalExpectation(), MeasureValued()):
        mean, variance, _ = exact_moments(rule, toy, DATUM)
        assert float(mean) == pytest.approx(v * gap, abs=1e-14)
        assert float(variance) == pytest.approx(0, abs=1e-16)

    mean, variance, value = exact_moments(BiasedStraightThrough(), toy, DATUM)
    assert float(mean) - v * gap == pytest.approx(v * (2 * theta - 1), abs=1e-14)  # the bias
    assert float(variance) == pytest.approx(4 * v**3, abs=1e-14)
    assert value == pytest.approx(theta * (1 - t) ** 2 + (1 - theta) * t**2, abs=1e-14)  # at hard draws


def test_measure_valued_mean_of_a_gaussian(monkeypatch):
    """D1, coupled: one Rayleigh draw for both sides, so Var = 16 delta^2 (2 - pi / 2) / (2 pi), whatever sigma."""
    mu, c, sigma = torch.tensor([0.4, -1.0]), torch.tensor([1.0, 0.3]), 0.7
    toy, delta = Quadratic(mu.clone(), sigma, c, has_path=True), mu - c
    r, weight = legendre(60, 0.0, 12.0)
    weight = weight * r * (-(r**2) / 2).exp()  # the Rayleigh density
    pair = pair_up(toy.model, toy.guide, (DATUM,), {})
    u = (-(r**2) / 2).exp().reshape(1, -1, 1).expand(1, -1, 2)
    monkeypatch.setattr(SiteDraw, "uniform", lambda self, like: u)
    with Forced({"z": mu.expand(len(r), 2)}):
        surrogate = MeasureValued().estimate(pair, DATUM.expand(len(r), -1)).surrogate
    gradients = per_row_gradients(surrogate, [toy.mu])
    mean = weight @ gradients
    assert torch.allclose(mean, -2 * delta, atol=1e-10)
    assert torch.allclose(weight @ gradients.square() - mean**2, 16 * delta**2 / (2 * math.pi) * (2 - math.pi / 2))


class Moment(nn.Module):
    """z ~ q(a, b), log w = f(z), with parameters of each datum, so that one backward pass yields every gradient."""

    def __init__(self, family, a, b, f, draws):
        super().__init__()
        self.a = nn.Parameter(torch.full((draws,), a))
        self.b = nn.Parameter(torch.full((draws,), b))
        self.family, self.f = family, f

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.family(self.a.detach(), self.b.detach()))
            pyro.factor("gain", self.f(z))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.family(self.a, self.b))


def poisson(rate, unused):
    return dist.Poisson(rate)


FAMILIES = {  # E z, E z^2, E z^3 as functions of the parameters
    "Normal": (dist.Normal, 0.6, 0.8, lambda m, s: (m, m**2 + s**2, m**3 + 3 * m * s**2)),
    "Gamma": (dist.Gamma, 1.7, 0.8, lambda a, r: (a / r, a * (a + 1) / r**2, a * (a + 1) * (a + 2) / r**3)),
    "Gamma, spiked": (dist.Gamma, 0.3, 1.2, lambda a, r: (a / r, a * (a + 1) / r**2, a * (a + 1) * (a + 2) / r**3)),
    "Gamma, narrow": (dist.Gamma, 40.0, 9.0, lambda a, r: (a / r, a * (a + 1) / r**2, a * (a + 1) * (a + 2) / r**3)),
    "Poisson": (poisson, 2.3, 1.0, lambda k, _: (k, k + k**2, k + 3 * k**2 + k**3)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_measure_valued_derivatives(name, draws=60_000):
    """Mean gradients of f = z + z^2 / 4 + z^3 / 20 within 4.5 standard errors; constants off by 7 % would be seen."""
    family, a, b, moments = FAMILIES[name]
    program = Moment(family, a, b, lambda z: z + z**2 / 4 + z**3 / 20, draws)
    live = [torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)]
    first, second, third = moments(*live)
    truth = torch.autograd.grad(first + second / 4 + third / 20, live, allow_unused=True)
    x = torch.zeros(draws, 1)
    pair = pair_up(program.model, program.guide, (x,), {})
    surrogate = MeasureValued().estimate(pair, x).surrogate
    found = torch.autograd.grad(surrogate.sum(), [program.a, program.b], allow_unused=True)
    for gradient, right in zip(found, truth, strict=True):
        if right is None:
            assert gradient is None
            continue
        error = gradient.std() / draws**0.5
        assert abs(gradient.mean() - right) < 4.5 * error
        assert 0.07 * abs(right) > 4.5 * error


def test_straight_through_reads_no_density_between_the_states():
    """Where f is linear the straight-through rule is unbiased, whatever the densities do off their states."""

    class Linear(BernoulliToy):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                b = pyro.sample("b", dist.Bernoulli(logits=torch.tensor([0.7])).to_event(1))
                pyro.factor("gain", 3 * b[..., 0])

    toy = Linear(-0.4, 0.0)
    p = torch.tensor(-0.4).sigmoid()
    mean, variance, _ = exact_moments(BiasedStraightThrough(), toy, DATUM)
    assert torch.allclose(mean, p * (1 - p) * (3 + 0.7 + 0.4)) and variance.abs() < 1e-14
