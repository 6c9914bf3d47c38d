"""Measured and enumerated variances against closed forms derived by hand (notes D1, D2, D4)."""

import math

import pytest
import torch

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.particles.pair import pair_up
from tests.problems import (
    BernoulliToy,
    Forced,
    Quadratic,
    exact_moments,
    linear_gaussian,
    per_row_gradients,
    sampled_gradients,
)

DATUM = torch.zeros(1, 1)


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.83])
@pytest.mark.parametrize("t", [0.45, 0.1])
def test_bernoulli_toy_variances(theta, t):
    """D2, exactly: REINFORCE, the optimal baseline, and leave-one-out at several K."""
    toy = BernoulliToy(math.log(theta / (1 - theta)), t)
    f1, f0, v = (1 - t) ** 2, t**2, theta * (1 - theta)
    gap = f1 - f0

    mean, variance, value = exact_moments(ScoreFunction(elbo), toy, DATUM)
    assert float(mean) == pytest.approx(v * gap, abs=1e-14)
    assert value == pytest.approx(theta * f1 + (1 - theta) * f0, abs=1e-14)
    assert float(variance) == pytest.approx(v * ((1 - theta) * f1**2 + theta * f0**2) - v**2 * gap**2, abs=1e-14)

    best = MovingAverage()
    best.observe(torch.tensor((1 - theta) * f1 + theta * f0))
    assert float(exact_moments(ScoreFunction(elbo, 1, best.eval()), toy, DATUM)[1]) == pytest.approx(0, abs=1e-14)

    for K in (2, 3, 4):
        mean, variance, _ = exact_moments(LeaveOneOut(elbo, K), toy, DATUM)
        form = gap**2 * (v * (1 - 3 * v) - v**2 * (K - 3) / (K - 1)) / K
        assert float(mean) == pytest.approx(v * gap, abs=1e-14)
        assert float(variance) == pytest.approx(form, abs=1e-14)


def quadrature_moments(objective, toy, nodes=6):
    """Mean and variance over the noise of a two-dimensional Gaussian guide by Gauss-Hermite: exact for polynomials."""
    import itertools

    import numpy as np

    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    points, weights = torch.tensor(points), torch.tensor(weights / weights.sum())
    K, D = objective.num_particles, len(toy.mu)
    grid = torch.tensor(list(itertools.product(range(nodes), repeat=K * D)))  # (T, K D)
    probability, noise = weights[grid].prod(1), points[grid]
    noise = noise.reshape(-1, K, D).transpose(0, 1)  # (K, T, D)
    mu = toy.mu if toy.has_path else toy.mu.detach()
    draws = mu + toy.sigma * (noise if K > 1 else noise[0])
    pair = pair_up(toy.model, toy.guide, (DATUM,), {})
    with Forced({"z": draws}):
        surrogate = objective.estimate(pair, DATUM.expand(len(grid), -1)).surrogate
    gradients = per_row_gradients(surrogate, list(toy.parameters()))
    mean = probability @ gradients
    return mean, probability @ gradients.square() - mean.square()


def test_gaussian_quadratic_variances():
    """D1, exactly: path, score, score with the mean as baseline, leave-one-out; here log w = -||z - c||^2."""
    mu, c, sigma, D = torch.tensor([0.4, -1.0]), torch.tensor([1.0, 0.3]), 0.7, 2
    delta = mu - c
    A = float(delta.square().sum())

    mean, variance = quadrature_moments(AnalyticKL(), Quadratic(mu.clone(), sigma, c, has_path=True))
    assert torch.allclose(mean, -2 * delta) and torch.allclose(variance, torch.full((2,), 4 * sigma**2))

    score = Quadratic(mu.clone(), sigma, c, has_path=False)
    mean, variance = quadrature_moments(ScoreFunction(elbo), score)
    form = A**2 / sigma**2 + 2 * A * (D + 4) + sigma**2 * (D + 2) * (D + 4) + 4 * delta**2
    assert torch.allclose(mean, -2 * delta) and torch.allclose(variance, form)

    average = MovingAverage()
    average.observe(torch.tensor(-(A + sigma**2 * D)))
    _, variance = quadrature_moments(ScoreFunction(elbo, 1, average.eval()), score)
    assert torch.allclose(variance, 4 * A + 4 * delta**2 + 2 * sigma**2 * (D + 4))

    K, squared_slope = 2, (2 * delta) ** 2
    of_score, of_cost = 1 / sigma**2, 4 * sigma**2 * A + 2 * sigma**4 * D
    fourth = 4 * A + 8 * delta**2 + 2 * sigma**2 * (D + 4)
    mean, variance = quadrature_moments(LeaveOneOut(elbo, K), score, nodes=7)
    form = (fourth - squared_slope) / K + (of_cost * of_score + squared_slope) / (K * (K - 1))
    assert torch.allclose(mean, -2 * delta) and torch.allclose(variance, form)


class TestLinearGaussian:
    """D4: log p(x) and the posterior are known."""

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def gradients(self, objective, program, draws):
        return sampled_gradients(objective, program, self.x[:1], draws)

    def test_every_bound_is_log_p_at_the_posterior(self):
        program = linear_gaussian().at_posterior()
        truth = program.log_evidence(self.x).mean()
        for objective in (Pathwise(), Pathwise(iwae, 5), Pathwise(renyi(0.5), 3), DoublyReparameterized(iwae, 4)):
            assert torch.allclose(-Loss(objective, program)(self.x), truth, atol=1e-10)

    def test_elbo_with_closed_form_divergence(self):
        program = linear_gaussian()
        q = torch.distributions.Normal(program.encoder(self.x), program.log_scale.exp())
        posterior = torch.distributions.MultivariateNormal(
            (self.x - program.bias) @ program.weight @ program.covariance() / program.s**2,
            program.covariance(),
        )
        full_q = torch.distributions.MultivariateNormal(q.loc, q.scale.square().expand_as(q.loc).diag_embed())
        divergence = torch.distributions.kl_divergence(full_q, posterior)
        exact = (program.log_evidence(self.x) - divergence).detach()
        for objective in (Pathwise(), AnalyticKL(), StickTheLanding(), Pathwise(elbo, 10)):
            pair = pair_up(program.model, program.guide, (self.x,), {})
            rows = self.x[:1].expand(20_000 // objective.num_particles, -1)
            values = objective.estimate(pair, rows).value.detach()
            error = values.std() / len(values) ** 0.5
            assert abs(float(values.mean() - exact[0])) < 5 * float(error)

    def test_variances_at_the_posterior(self):
        """Total pathwise: 1/s_q^2 for the mean and 2/s_q^2 for the scale; stick-the-landing and DReG: zero."""
        program = linear_gaussian().at_posterior()
        rows = self.gradients(Pathwise(), program, 4000)
        of_mean, of_log_scale = self.split(program, rows)
        s_q = program.covariance().diagonal().sqrt()
        assert torch.allclose(of_mean, 1 / s_q**2, rtol=0.12)  # 5 standard errors of a variance at 4,000 draws
        assert torch.allclose(of_log_scale, torch.tensor(2.0), rtol=0.25)  # d log s, kurtosis of eps^2 is 15
        for objective in (
            StickTheLanding(),
            StickTheLanding(3),
            DoublyReparameterized(iwae, 1),
            DoublyReparameterized(iwae, 4),
        ):
            rows = self.gradients(objective, program, 100)
            assert self.split(program, rows)[0].max() < 1e-24 and self.split(program, rows)[1].max() < 1e-24

    @staticmethod
    def split(program, rows):
        names = [n for n, p in program.named_parameters() for _ in range(p.numel())]
        pick = lambda name: rows[:, [n == name for n in names]].var(0)
        return pick("encoder.bias"), pick("log_scale")

    def test_reparameterized_gradients_agree_in_the_mean(self):
        """STL and the analytic KL against the plain path for the elbo, DReG for the iwae: one mean, by z-tests."""
        program = linear_gaussian()
        pairs = [
            (Pathwise(elbo, 1), StickTheLanding(1)),
            (Pathwise(elbo, 1), AnalyticKL(1)),
            (Pathwise(iwae, 3), DoublyReparameterized(iwae, 3)),
            (Pathwise(iwae, 3), LeaveOneOut(iwae, 3)),
            (StickTheLanding(1), DoublyReparameterized(iwae, 1)),
        ]
        for one, other in pairs:
            a, b = (self.gradients(objective, program, 3000) for objective in (one, other))
            spread = ((a.var(0) + b.var(0)) / 3000).sqrt().clamp(min=1e-12)
            assert ((a.mean(0) - b.mean(0)) / spread).abs().max() < 5.0, (one, other)

    def test_doubly_reparameterized_at_one_particle_is_stick_the_landing(self):
        program = linear_gaussian()
        losses = [Loss(o, program) for o in (StickTheLanding(1), DoublyReparameterized(iwae, 1))]
        found = []
        for loss in losses:
            torch.manual_seed(3)
            loss(self.x)
            torch.manual_seed(3)
            found.append(torch.autograd.grad(loss(self.x), list(program.parameters())))
        assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(*found, strict=True))
