"""The steps of a Gaussian diffusion: they are those of the joint Gaussian, and the I-MMSE identity."""

import numpy as np
import pytest
import torch

from pplvm.distributions.diffusion_steps import datum_variance, diffusion_steps

LOG_SNR = torch.linspace(5, -6, 7, dtype=torch.float64)


def joint_covariance(log_snr, variance):
    """Of (u, u_1, .., u_T) with u ~ N(0, variance): u_i / alpha_i is u and a random walk."""
    alpha = torch.cat([torch.ones(1), torch.sigmoid(log_snr).sqrt()])
    walk = torch.cat([torch.zeros(1), (-log_snr).exp()])
    return alpha[:, None] * alpha * (variance + torch.minimum(walk[:, None], walk))


@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0])
def test_the_true_reverse_steps_are_the_conditionals_of_the_joint_gaussian(variance):
    cov = joint_covariance(LOG_SNR, variance)
    steps = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR, variance))
    for i in range(1, len(LOG_SNR) + 1):
        slope = cov[i - 1, i] / cov[i, i]
        of_datum = cov[0, i] / cov[i, i]  # E[u | u_i]
        torch.testing.assert_close(steps.keep[i - 1] + steps.pull[i - 1] * of_datum, slope, rtol=1e-9, atol=1e-11)
        left = cov[i - 1, i - 1] - slope * cov[i - 1, i]
        torch.testing.assert_close(steps.variance[i - 1], left, rtol=1e-8, atol=1e-11)


def test_given_the_datum_they_are_the_posterior():
    cov = joint_covariance(LOG_SNR, 1.0)
    steps = diffusion_steps(LOG_SNR, torch.zeros_like(LOG_SNR))
    for i in range(2, len(LOG_SNR) + 1):
        known = cov[[0, i]][:, [0, i]]
        slopes = torch.linalg.solve(known, cov[i - 1, [0, i]])
        torch.testing.assert_close(torch.stack([steps.pull[i - 1], steps.keep[i - 1]]), slopes, rtol=1e-8, atol=1e-10)
        left = cov[i - 1, i - 1] - slopes @ cov[i - 1, [0, i]]
        torch.testing.assert_close(steps.variance[i - 1], left, rtol=1e-8, atol=1e-10)
    assert torch.equal(steps.variance, steps.posterior)


def test_the_weight_of_a_step_is_the_difference_of_its_signal_to_noise_ratios():
    """Kingma et al.'s (T / 2) (snr_s - snr_t) |u - uhat|^2, under the posterior's variance."""
    steps, snr = diffusion_steps(LOG_SNR, torch.zeros_like(LOG_SNR)), LOG_SNR.exp()
    weight = steps.pull[1:].square() / steps.variance[1:]
    torch.testing.assert_close(weight, snr[:-1] - snr[1:], rtol=1e-12, atol=0)


@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0])
def test_half_the_integral_of_the_mmse_is_the_information(variance):
    """Guo, Shamai and Verdu: d I(u; u_t) / d snr = mmse(snr) / 2."""
    nodes, weights = (torch.as_tensor(each) for each in np.polynomial.legendre.leggauss(60))
    low, high = -6.0, 5.0
    log_snr = low + (high - low) * (nodes + 1) / 2
    integrand = log_snr.exp() * datum_variance(log_snr, variance)  # d snr = snr d log snr
    found = 0.5 * (high - low) / 2 * (weights * integrand).sum()
    ends = torch.tensor([low, high]).exp() * variance
    expected = 0.5 * (ends[1].log1p() - ends[0].log1p())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    wrong = 0.5 * (high - low) / 2 * (weights * log_snr.exp() * variance).sum()  # the error of no estimate at all
    assert (wrong - expected).abs() > 1
