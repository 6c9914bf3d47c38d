"""Rules that draw again, against the exact gradient: their own noise is integrated out as well."""

import pytest

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.antithetic import ARM, DisARM
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.per_site import PerSite
from tests.noise import exact_with_noise, frozen
from tests.problems import exact_gradient, exact_moments, small_net, two_data

# A temperature of 1/2 makes the relaxation a polynomial in the noise at its ends, so quadrature is exact soon.
WITH_NOISE = {
    "ARM": (lambda: ARM(), 3),
    "ARM, iwae": (lambda: ARM(iwae), 3),
    "DisARM": (lambda: DisARM(), 1),
    "DisARM, K=2": (lambda: DisARM(elbo, 2), 1),
    "DisARM, iwae, K=2": (lambda: DisARM(iwae, 2), 1),
    "DisARM, renyi, K=2": (lambda: DisARM(renyi(0.5), 2), 1),
    "REBAR": (lambda: frozen(REBAR(0.5, 0.7)), 18),
    "RELAX": (lambda: frozen(RELAX(temperature=0.5, coefficient=0.7)), 18),
}


@pytest.mark.parametrize("name", WITH_NOISE)
def test_mean_over_draws_and_noise_is_the_exact_gradient(name, monkeypatch):
    net, x = small_net(), two_data()[:1]
    make, nodes = WITH_NOISE[name]
    objective = make()
    truth, _ = exact_gradient(net, x, objective.bound, objective.num_particles)
    mean, variance = exact_with_noise(objective, net, x, nodes, monkeypatch)
    assert (mean - truth).abs().max() < (1e-10 if nodes < 10 else 1e-7)
    assert variance.sum() > 1e-4


WITHOUT_NOISE = {
    "MuProp": lambda: MuProp(),
    "MuProp, simple": lambda: MuProp(linear=False),
    "double, K=2": lambda: frozen(DoubleControlVariate(2, -0.8)),
    "double, K=3": lambda: frozen(DoubleControlVariate(3, -0.8)),
    "measure-valued": lambda: MeasureValued(),
    "local": lambda: LocalExpectation(),
    "per site": lambda: PerSite(),
    "per site, K=3": lambda: PerSite(num_particles=3),
}


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_mean_over_draws_is_the_exact_gradient(name):
    net, x, objective = small_net(), two_data()[1:], WITHOUT_NOISE[name]()
    truth, bound = exact_gradient(net, x, elbo, 1)
    mean, variance, value = exact_moments(objective, net, x)
    assert (mean - truth).abs().max() < 1e-10
    assert abs(value - bound) < 1e-10
    assert variance.sum() > 1e-4
