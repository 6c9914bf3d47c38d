"""Each transition leaves its density as it is: exact draws before, one transition, exact draws after."""

import numpy as np
import pytest
import torch
from scipy.stats import gamma

from pplvm.evaluation.annealing import transitions
from pplvm.evaluation.annealing.annealed import betas_of
from pplvm.evaluation.annealing.path import AnnealingPath
from pplvm.evaluation.annealing.transitions import Tally, hamiltonian, resample_coordinate, transition, tuned_step_sizes
from pplvm.evaluation.per_datum import evaluation_mode
from tests.evaluation.annealing_problems import Codes, GammaPoisson, Mixed, chi_square, no_jacobian, wrong_sign, z_of
from tests.problems import linear_gaussian, small_net, states_of, two_data

K = 20_000
LIMIT = 5.0


def gamma_after(beta):
    """Chi-square of positive draws, by 20 quantiles of the density they are drawn from, after a trajectory."""
    program, x = GammaPoisson(), torch.tensor([7.0])
    target = program.on_path(x, beta)
    shape, rate = float(target.concentration), float(target.rate)
    edges = torch.tensor(gamma.ppf(np.arange(1, 20) / 20, shape, scale=1 / rate))
    size = 1.4 * torch.polygamma(1, torch.tensor([shape])).sqrt()  # of log z: so long that some are refused
    with evaluation_mode(program, x) as pair:
        path = AnnealingPath.of(pair, x, "guide")
        before = path.hold({"z": target.sample((K, 1))}, K)
        after, _ = hamiltonian(path, before, beta, size)
    counts = torch.bincount(torch.bucketize(after.free.exp().squeeze(1), edges), minlength=20).double()
    return chi_square(counts, torch.ones(20)), float((after.free != before.free).double().mean())


@pytest.mark.parametrize("beta", [0.2, 0.7])
def test_trajectories_keep_a_positive_latents_density(beta):
    score, moved_share = gamma_after(beta)
    assert score < LIMIT
    assert 0.3 < moved_share < 0.95


@pytest.mark.parametrize("mutant", [no_jacobian, wrong_sign])
def test_wrong_trajectories_are_seen(mutant, monkeypatch):
    mutant(monkeypatch)
    assert gamma_after(0.7)[0] > 2 * LIMIT


def test_trajectories_keep_a_gaussian_and_balance_it():
    """Means, variances, and E[g(z) h(z')] = E[h(z) g(z')]."""
    program, x, beta = linear_gaussian(), torch.tensor([[0.5, -1.0, 2.0]]), 0.4
    with evaluation_mode(program, x) as pair:
        path = AnnealingPath.of(pair, x, "guide")
        W = program.weight
        precision = (1 - beta) * (-2 * program.log_scale).exp().diag() + beta * program.covariance().inverse()
        pull = (1 - beta) * program.encoder(x)[0] + beta * W.T @ (x[0] - program.bias) / program.s**2
        target = torch.distributions.MultivariateNormal(precision.inverse() @ pull, precision_matrix=precision)
        before = path.hold({"z": target.sample((K, 1))}, K)
        after, _ = hamiltonian(path, before, beta, torch.tensor([1.0, 0.6]))
    first, second = (point.free - target.mean for point in (before, after))
    assert not torch.equal(first, second)
    for moment in (lambda z: z, lambda z: z.square() - target.variance, lambda z: z.prod(1, keepdim=True)):
        expected = precision.inverse()[0, 1] if moment(second).shape[1] == 1 else 0
        assert all(abs(z_of(column)) < LIMIT for column in (moment(second) - expected).T)
    g, h = (lambda z: z[:, 0]), (lambda z: z[:, 1].clamp(min=0) + (z[:, 0] > 0.1))
    assert abs(z_of(g(first) * h(second) - h(first) * g(second))) < LIMIT


def flipped(program, x, name, beta):
    """Chi-square of the joint states after one flip of one site, drawn exactly before; which share of them moved."""
    with evaluation_mode(program, x) as pair:
        values, log_p, log_q = states_of(pair, x)
        log_f = ((1 - beta) * log_q + beta * log_p)[:, 0]
        path, first = AnnealingPath.of(pair, x, "guide"), log_f.softmax(0).multinomial(K, replacement=True)
        every = path.hold({n: v.unsqueeze(1) for n, v in values.items()}, len(log_f))
        after, _ = resample_coordinate(path, every.rows(first), beta, name)
    known, found = (torch.cat(list(point.states.values()), 1) for point in (every, after))
    last = (found[:, None] == known).all(-1).int().argmax(1)
    counts = torch.bincount(last, minlength=len(known)).double()
    return chi_square(counts, log_f.softmax(0)), float((first != last).double().mean())


DISCRETE = [
    (lambda: small_net((2, 3)), two_data()[:1], "z_1"),
    (lambda: small_net((2, 3)), two_data()[:1], "z_2"),
    (Codes, torch.tensor([4.0]), "c"),
]


@pytest.mark.parametrize(("build", "x", "name"), DISCRETE)
@pytest.mark.parametrize("beta", [0.3, 0.9])
def test_flips_keep_the_density_of_states(build, x, name, beta):
    score, moved_share = flipped(build(), x, name, beta)
    assert score < LIMIT and moved_share > 0.1


@pytest.mark.parametrize(("build", "x", "name"), DISCRETE)
def test_flips_that_always_accept_are_seen(build, x, name, monkeypatch):
    right = transitions._proposed
    monkeypatch.setattr(transitions, "_proposed", lambda log_f: (right(log_f)[0], torch.ones(log_f.shape[1])))
    assert flipped(build(), x, name, 0.9)[0] > 2 * LIMIT


def mixed_balance(backwards):
    """E[g(z) h(z')] - E[g(z'') h(z)] in standard errors, z' after a transition, z'' after its supposed reversal."""
    program, x, beta = Mixed(), torch.tensor([0.8]), 0.8
    with evaluation_mode(program, x) as pair:
        path, tally = AnnealingPath.of(pair, x, "guide"), Tally()
        before = path.hold(program.on_path(x, beta, 10 * K), 10 * K)
        sizes = torch.tensor([0.2])
        after = transition(path, before, beta, sizes, False, tally)
        back = transition(path, before, beta, sizes, backwards, tally)
    c, z = (lambda point: (point.states["c"] == 1).double()[:, 0]), (lambda point: (point.free[:, 0] > 0.2).double())
    assert min(tally.means()) > 0.2
    for point in (after, back):  # what both leave as it was
        for of in (c, z, lambda p: c(p) * z(p)):
            assert abs(z_of(of(point) - of(before))) < LIMIT
    return z_of(c(before) * z(after) - c(back) * z(before))


def test_a_mixed_transition_is_reversed_by_its_order():
    assert abs(mixed_balance(backwards=True)) < LIMIT
    assert abs(mixed_balance(backwards=False)) > 2 * LIMIT  # the same order is no reversal


def test_step_sizes_follow_the_scales_and_are_accepted():
    """A guide a hundred times wider in one coordinate; the sizes serve at both ends."""
    program = linear_gaussian()
    with torch.no_grad():
        program.weight *= torch.tensor([30.0, 1.0])
    x, betas = torch.randn(1, 3), betas_of("sigmoidal", 60)
    with evaluation_mode(program, x) as pair:
        path, tally = AnnealingPath.of(pair, x, "guide"), Tally()
        sizes, point = tuned_step_sizes(path, betas[1:-1]), path.draw(200)
        assert len(sizes) == 59
        for beta, size in zip(betas[1:-1], sizes, strict=True):
            point = transition(path, point, beta, size, False, tally)
    assert 0.5 < float(tally.means()[0]) < 0.95 and tally.means()[1].isnan()
    spread = program.covariance().diagonal().sqrt()
    assert ((point.free.std(0) / spread).log().abs() < 0.3).all()
