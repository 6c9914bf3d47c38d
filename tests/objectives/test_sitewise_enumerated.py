"""Rules that draw again, against the exact gradient: their own noise is integrated out as well."""

import itertools

import numpy as np
import pytest
import torch

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.antithetic import ARM, DisARM
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.site_draw import SiteDraw
from pplvm.particles import pair_up
from tests.problems import (
    Forced,
    exact_gradient,
    exact_moments,
    per_row_gradients,
    small_net,
    states_of,
    two_data,
)


def legendre(nodes, low, high):
    points, weights = np.polynomial.legendre.leggauss(nodes)
    points, weights = torch.tensor(points), torch.tensor(weights)
    return low + (high - low) * (points + 1) / 2, weights / 2 * (high - low)


def noise_of_one_bit(p, nodes):
    """Draw b, noise v in (0, 1) given b, and their probability; pieces end where the partner of b flips."""
    rows = []
    for b in (0.0, 1.0):
        chance = p if b else 1 - p
        flip = (1 - p) / p if b else p / (1 - p)  # u = 1 - p v < p, or u = (1 - p) v < p
        ends = [0.0, min(flip, 1.0), 1.0]
        for low, high in itertools.pairwise(ends):
            if high > low:
                v, weight = legendre(nodes, low, high)
                rows += [(b, float(v_), float(w) * chance) for v_, w in zip(v, weight, strict=True)]
    return rows


def exact_with_noise(objective, program, x, nodes, monkeypatch):
    """Mean and variance (P,) over the draws of one Bernoulli layer and the one uniform that each rule draws."""
    pair = pair_up(program.model, program.guide, (x,), {})
    name = next(iter(states_of(pair, x)[0]))
    trace = pair.run_guide(1, (x,), {})
    p = trace.nodes[name]["fn"].base_dist.probs.detach().flatten()
    K = objective.num_particles
    each = [noise_of_one_bit(float(q), nodes) for q in p]
    rows = torch.tensor(list(itertools.product(*(each * K))))  # (T, K n, 3)
    rows = rows.reshape(len(rows), K, len(p), 3).transpose(0, 1)  # (K, T, n, 3)
    b, v, probability = rows.unbind(-1)
    probability = probability.prod(2).prod(0)
    monkeypatch.setattr(SiteDraw, "uniform", lambda self, like: v)
    with Forced({name: b if K > 1 else b[0]}):
        surrogate = objective.estimate(pair, x.expand(b.shape[1], -1)).surrogate
    gradients = per_row_gradients(surrogate, list(program.parameters()))
    mean = probability @ gradients
    return mean, probability @ gradients.square() - mean.square()


def frozen(objective):
    """What a rule learns stands still, away from its start."""
    objective.control.requires_grad_(False).eval()
    for number, parameter in enumerate(objective.control.parameters()):
        if parameter.dim():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) / 3)
    return objective


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
