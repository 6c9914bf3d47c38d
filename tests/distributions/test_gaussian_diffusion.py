"""The forward and the reverse chain: with the true reverse variance the bound is log p at any T, and shapes."""

import pyro.distributions as dist
import pytest
import torch

from pplvm.distributions.diffusion_steps import datum_variance, diffusion_steps
from pplvm.distributions.gaussian_diffusion import ForwardDiffusion, ReverseDiffusion
from tests.distributions.test_diffusion_steps import joint_covariance

LOG_SNR = torch.linspace(5, -6, 7, dtype=torch.float64)


def of_normal_data(deviation):
    """E[u | u_i] of u ~ N(0, deviation^2)."""

    def denoise(u, log_snr):
        assert u.shape[:-1] == log_snr.shape
        alpha, noise = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr)
        return (alpha * deviation**2 / (alpha**2 * deviation**2 + noise)).unsqueeze(-1) * u

    return denoise


def reverse(log_snr=LOG_SNR, deviation=1.0, size=2, true_variance=True):
    exact = datum_variance(log_snr, deviation**2)
    steps = diffusion_steps(log_snr, exact if true_variance else torch.zeros_like(exact))
    end = float(steps.alpha[-1] ** 2 * deviation**2 + steps.sigma[-1] ** 2) if true_variance else 1.0
    return ReverseDiffusion(of_normal_data(deviation), steps, size, end)


def log_weights(u, T, deviation=1.0, true_variance=True, count=500, ends=(9.0, -9.0)):
    """log p(u, chain) - log q(chain | u) of draws of the forward chain, (count,)."""
    log_snr = torch.linspace(*ends, T)
    q = ForwardDiffusion(u.expand(count, -1), log_snr)
    chain = q.rsample()
    mean = of_normal_data(deviation)(chain[:, 0], log_snr[0].expand(count))
    end = dist.Normal(mean, datum_variance(log_snr[0], deviation**2).sqrt()).to_event(1)  # the true one for either
    p = reverse(log_snr, deviation, u.shape[-1], true_variance)
    return p.log_prob(chain) + end.log_prob(u) - q.log_prob(chain)


@pytest.mark.parametrize("T", [1, 10, 100, 1000])
@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_with_the_true_reverse_variance_every_draw_gives_log_p(T, deviation):
    u = torch.tensor([0.3, -1.2])
    exact = dist.Normal(0.0, deviation).expand([2]).to_event(1).log_prob(u)
    found = log_weights(u, T, deviation, count=20)
    torch.testing.assert_close(found, exact.expand(20), rtol=0, atol=1e-6)


def test_the_posterior_variance_of_ddpm_leaves_a_gap_of_about_one_over_T():
    """8.3, .43 and .040 nats at T = 10, 100, 1000 on another schedule of signal-to-noise ratios."""
    gaps, u = {}, torch.zeros(1)
    for T, count in ((10, 5_000), (100, 5_000), (1000, 1_000)):
        weights = log_weights(u, T, true_variance=False, count=count)
        gaps[T] = float(dist.Normal(0.0, 1.0).log_prob(u) - weights.mean())
    assert 6.8 < gaps[10] < 7.7
    assert 0.28 < gaps[100] < 0.38
    assert 0 < gaps[1000] < 0.07


def test_the_forward_chain_is_the_joint_gaussian():
    start = torch.tensor([0.7, -0.4])
    q = ForwardDiffusion(start, LOG_SNR)
    alpha = torch.sigmoid(LOG_SNR).sqrt()
    cov = joint_covariance(LOG_SNR, 0.0)[1:, 1:]
    value = q.rsample()
    expected = sum(
        torch.distributions.MultivariateNormal(alpha * start[z], cov).log_prob(value[:, z]) for z in range(2)
    )
    torch.testing.assert_close(q.log_prob(value), expected, rtol=1e-9, atol=1e-9)
    drawn = q.sample((40_000,))
    error = (alpha[:, None] * (1 - alpha[:, None] ** 2)).abs() / 200 + 1 / 200
    assert ((drawn.mean(0) - alpha[:, None] * start).abs() < 4 * error).all()
    found = torch.cov(drawn[:, :, 0].T)
    torch.testing.assert_close(found, cov, rtol=0, atol=0.03)


def test_the_reverse_chain_draws_what_it_scores():
    """Its own draws have the covariance of the forward chain of normal data, and its density is that Gaussian's."""
    p, cov = reverse(), joint_covariance(LOG_SNR, 1.0)[1:, 1:]
    drawn = p.sample((40_000,))
    torch.testing.assert_close(torch.cov(drawn[:, :, 1].T), cov, rtol=0, atol=0.05)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(len(LOG_SNR)), cov)
    value = drawn[:5]
    expected = gaussian.log_prob(value[..., 0]) + gaussian.log_prob(value[..., 1])
    torch.testing.assert_close(p.log_prob(value), expected, rtol=1e-8, atol=1e-8)


def test_the_density_is_one_batched_pass_over_the_chain():
    calls = []
    steps = diffusion_steps(LOG_SNR, datum_variance(LOG_SNR))
    p = ReverseDiffusion(lambda u, log_snr: calls.append(u.shape) or u, steps, 2)
    p.log_prob(torch.zeros(3, 4, 7, 2))
    assert calls == [(3, 4, 6, 2)]


@pytest.mark.parametrize("T", [1, 4])
def test_shapes_expand_and_events(T):
    log_snr = torch.linspace(5, -6, T) if T > 1 else torch.zeros(1)
    for fn in (ForwardDiffusion(torch.randn(3, 2), log_snr), reverse(log_snr)):
        batch = fn.batch_shape
        assert fn.event_shape == (T, 2) and fn.has_rsample
        assert fn.sample((5,)).shape == (5, *batch, T, 2)
        grown = fn.expand([4, 3])
        assert type(grown) is type(fn) and grown.batch_shape == (4, 3)
        value = grown.sample((2,))
        assert grown.log_prob(value).shape == (2, 4, 3)
        torch.testing.assert_close(grown.log_prob(value), fn.expand([3]).log_prob(value))
        assert grown.to_event(1).event_shape == (3, T, 2)
        assert torch.func.vmap(fn.log_prob)(fn.sample((6,))).shape == (6, *batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precisions(dtype):
    log_snr = LOG_SNR.to(dtype)
    q, p = ForwardDiffusion(torch.zeros(3, 2, dtype=dtype), log_snr), reverse(log_snr)
    value = q.rsample()
    assert value.dtype is p.sample().dtype is q.log_prob(value).dtype is p.log_prob(value).dtype is dtype
    exact = p.log_prob(value) - q.log_prob(value)
    twice = ForwardDiffusion(torch.zeros(3, 2), LOG_SNR)
    expected = reverse().log_prob(value.double()) - twice.log_prob(value.double())
    torch.testing.assert_close(exact.double(), expected, rtol=1e-4, atol=1e-3)


def test_bad_input():
    with pytest.raises(ValueError, match="log_snr must be"):
        ForwardDiffusion(torch.zeros(2), torch.zeros(0))
    with pytest.raises(ValueError, match="size must be"):
        reverse(size=0)
    with pytest.raises(ValueError, match="within the support"):
        ForwardDiffusion(torch.zeros(2), LOG_SNR, validate_args=True).log_prob(torch.full((7, 2), torch.nan))


def test_one_chain_has_a_density_for_each_datum_of_a_batch():
    log_snr, start, u = torch.linspace(4, -4, 3), torch.randn(5, 2), torch.randn(3, 2)
    forward = ForwardDiffusion(start, log_snr)
    torch.testing.assert_close(forward.log_prob(u), forward.log_prob(u.expand(5, 3, 2)), rtol=0, atol=0)
    reverse = ReverseDiffusion(lambda u, log_snr: u, diffusion_steps(log_snr, datum_variance(log_snr)), size=2)
    assert reverse.expand((5,)).log_prob(u).shape == (5,)
