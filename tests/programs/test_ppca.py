"""Probabilistic PCA's log p(x) from the dense covariance, by quadrature, and from its own weights."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from pplvm.bounds import elbo
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.particles.draw import draw_particles
from pplvm.programs.ppca import ProbabilisticPCA


def skewed(data_size=5, latent_size=2) -> ProbabilisticPCA:
    """With columns that are not orthogonal, so that the posterior is correlated."""
    program = ProbabilisticPCA(data_size, latent_size, data_mean=torch.linspace(-1, 1, data_size))
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.copy_(torch.randn_like(parameter))
        program.decoder.weight[:, 0] += 1.0
        program.log_scale.fill_(math.log(0.7))
    return program


def dense_log_evidence(program: ProbabilisticPCA, x: torch.Tensor) -> torch.Tensor:
    W, mu = program.decoder.weight, program.decoder.bias
    return MultivariateNormal(mu, W @ W.T + 0.7**2 * torch.eye(len(mu))).log_prob(x)


def test_log_evidence_is_that_of_the_dense_gaussian():
    program, x = skewed(), torch.randn(4, 5)
    torch.testing.assert_close(program.log_evidence(x), dense_log_evidence(program, x))
    torch.testing.assert_close(program.log_evidence(x.reshape(4, 1, 5)), dense_log_evidence(program, x))


def test_log_evidence_by_quadrature():
    program, x = skewed(3, 1), torch.randn(1, 3)
    points, weights = np.polynomial.hermite_e.hermegauss(120)
    means = program.decoder(torch.tensor(points)[:, None])
    likelihood = torch.distributions.Normal(means, 0.7).log_prob(x).sum(1)
    prior = torch.tensor(weights / weights.sum()).log()
    torch.testing.assert_close(program.log_evidence(x)[0], (prior + likelihood).logsumexp(0), rtol=1e-8, atol=0)


@pytest.mark.parametrize("latent_size", [1, 2, 3])
def test_at_the_posterior_every_weight_is_the_evidence(latent_size):
    program, x = skewed(5, latent_size), torch.randn(4, 5)
    before = draw_particles(program.model, program.guide, x, num_particles=7).log_weights
    assert before.std(0).min() > 0.1
    program.at_posterior()
    weights = draw_particles(program.model, program.guide, x, num_particles=7).log_weights
    torch.testing.assert_close(weights, program.log_evidence(x).expand(7, 4))


def test_the_elbo_is_closed_form_at_the_posterior_alone():
    program, x = skewed().at_posterior(), torch.randn(4, 5)
    at = -Loss(AnalyticKL(200), program)(x)
    assert abs(at - program.log_evidence(x).mean()) < 0.2  # the likelihood's noise alone
    drawn = draw_particles(program.model, program.guide, x, num_particles=200)
    torch.testing.assert_close(elbo(drawn.log_weights), program.log_evidence(x))
    with torch.no_grad():
        program.encoder.bias += 3.0
    assert -Loss(AnalyticKL(200), program)(x) < at - 1


def test_float32_knows_its_evidence_in_float64():
    program, x = skewed(), torch.randn(4, 5)
    truth = dense_log_evidence(program, x)
    found = program.float().log_evidence(x.float())
    assert found.dtype is torch.float64
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=0)
    found.sum().backward()
    assert program.decoder.weight.grad.isfinite().all()


def test_mu_starts_at_the_mean():
    mean = torch.tensor([0.1, 0.9, 0.4])
    program = ProbabilisticPCA(3, 1, data_mean=mean)
    assert torch.equal(program.decoder.bias, mean) and torch.equal(program.centre, mean)
