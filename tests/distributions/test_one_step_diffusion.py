"""One step of a diffusion: on average over time and noise it is the bound of the whole chain, exactly."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pplvm.distributions.diffusion_steps import datum_variance, diffusion_steps
from pplvm.distributions.gaussian_diffusion import ForwardDiffusion, ReverseDiffusion
from pplvm.distributions.one_step_diffusion import OneStepDiffusion
from tests.distributions.test_gaussian_diffusion import of_normal_data

T = 6
LOG_SNR = torch.linspace(4, -5, T, dtype=torch.float64)


def off(u, log_snr):
    """A denoiser of other data: its bound lies below the density of N(0, 1)."""
    return 0.8 * of_normal_data(1.0)(u, log_snr) + 0.3


def expected_log_prob(u, denoise, steps, loc=0.0, scale=1.0):
    """The mean over all T times and, by quadrature, over the noise, of values u (N, 1)."""
    nodes, weights = (torch.as_tensor(each) for each in np.polynomial.hermite_e.hermegauss(5))  # a quadratic
    time = ((torch.arange(T) + 0.5) / T)[:, None, None].expand(T, 5, len(u))
    noise = nodes[:, None, None].expand(T, 5, len(u), 1)
    one = torch.ones(1)
    log_prob = OneStepDiffusion(denoise, steps, time, noise, loc * one, scale * one).log_prob(u)
    return (log_prob.mean(0) * (weights / weights.sum())[:, None]).sum(0)


@pytest.mark.parametrize("factor", [1.0, 0.4, 3.0])
@pytest.mark.parametrize("denoise", [of_normal_data(1.0), off])
def test_its_mean_is_the_elbo_of_the_chain(denoise, factor):
    steps = diffusion_steps(LOG_SNR, factor * datum_variance(LOG_SNR))
    u = torch.tensor([[0.3], [-2.0]])
    q = ForwardDiffusion(u.expand(50_000, 2, 1), LOG_SNR)
    chain = q.sample()
    mean = denoise(chain[..., 0, :], LOG_SNR[0].expand(chain.shape[:-2]))
    end = dist.Normal(mean, steps.variance[0].sqrt()).to_event(1).log_prob(u)
    log_weights = ReverseDiffusion(denoise, steps, 1).log_prob(chain) + end - q.log_prob(chain)
    error = log_weights.std(0) / len(log_weights) ** 0.5
    found = expected_log_prob(u, denoise, steps)
    assert ((found - log_weights.mean(0)).abs() < 4 * error + 1e-9).all()
    wrong = expected_log_prob(u, denoise, steps._replace(variance=1.1 * steps.variance))
    assert factor != 1.0 or denoise is off or ((wrong - log_weights.mean(0)).abs() > 4 * error + 1e-9).all()


def test_at_the_optimum_of_normal_data_its_mean_is_their_log_density():
    steps, u = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR)), torch.linspace(-3, 3, 7)[:, None]
    found = expected_log_prob(u, of_normal_data(1.0), steps)
    torch.testing.assert_close(found, dist.Normal(0.0, 1.0).log_prob(u[:, 0]), rtol=0, atol=1e-10)
    of_others = expected_log_prob(u, off, steps)
    weights = dist.Normal(0.0, 1.0).log_prob(u[:, 0]).exp()
    assert (weights * (of_others - found)).sum() < -1e-2  # on average over such data, as KL has it


def test_a_value_of_another_location_and_scale_has_the_log_determinant():
    steps, u = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR)), torch.linspace(-2, 2, 5)[:, None]
    found = expected_log_prob(3 * u - 1, off, steps, loc=-1.0, scale=3.0)
    torch.testing.assert_close(found, expected_log_prob(u, off, steps) - torch.tensor(3.0).log(), rtol=0, atol=1e-12)


def test_its_exponential_averages_to_more_than_the_density():
    """Why objectives on other bounds refuse it."""
    steps = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR))
    torch.manual_seed(0)
    time, noise, zero = torch.rand(100_000), torch.randn(100_000, 1), torch.zeros(1)
    log_prob = OneStepDiffusion(of_normal_data(1.0), steps, time, noise, zero, zero + 1).log_prob(zero)
    assert log_prob.logsumexp(0) - np.log(100_000) > dist.Normal(0.0, 1.0).log_prob(zero) + 0.1


def test_draws_are_the_chains():
    steps, zero = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR)), torch.zeros(2)
    bound = OneStepDiffusion(of_normal_data(1.0), steps, torch.rand(20_000), torch.randn(20_000, 2), zero + 5, zero + 3)
    drawn = bound.sample()
    assert drawn.shape == (20_000, 2)
    torch.testing.assert_close(drawn.mean(0), zero + 5, rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.std(0), zero + 3, rtol=0, atol=0.1)


def test_shapes_expand_vmap_and_gradients():
    steps, zero = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR)), torch.zeros(2)
    bound = OneStepDiffusion(off, steps, torch.rand(3), torch.randn(3, 2), zero, zero + 1)
    assert bound.batch_shape == (3,) and bound.event_shape == (2,)
    grown = bound.expand([4, 3])
    value = torch.randn(4, 3, 2, requires_grad=True)
    torch.testing.assert_close(grown.log_prob(value), bound.log_prob(value))
    grown.log_prob(value).sum().backward()
    assert value.grad.abs().min() > 0
    assert torch.func.vmap(bound.log_prob)(value).shape == (4, 3)
    with pytest.raises(ValueError, match="noise must be"):
        OneStepDiffusion(off, steps, torch.rand(3), torch.randn(4, 2), zero, zero + 1)
