"""Every discrete estimator against full enumeration of its own randomness: no Monte Carlo, no tolerance."""

import pytest
import torch

from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
from pplvm.objectives.baselines import LearnedBaseline, MovingAverage
from pplvm.objectives.exact import Exact, PriorSampling
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.particles.dependencies import Dependents
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from tests.problems import (
    exact_gradient,
    exact_mean,
    exact_moments,
    sampled_gradients,
    small_net,
    two_data,
)


def settled(baseline, value):
    """A baseline that has observed something and stands still."""
    baseline.observe(torch.tensor([[value]]))
    return baseline.eval()


ESTIMATORS = {
    "score": lambda: ScoreFunction(elbo, 1),
    "score, K=2": lambda: ScoreFunction(elbo, 2),
    "score, moving average": lambda: ScoreFunction(elbo, 2, settled(MovingAverage(), -3.0)),
    "score, learned": lambda: ScoreFunction(elbo, 2, settled(LearnedBaseline(3, 4), -3.0)),
    "score, iwae": lambda: ScoreFunction(iwae, 3),
    "score, iwae, moving average": lambda: ScoreFunction(iwae, 2, settled(MovingAverage(), -2.0)),
    "score, renyi": lambda: ScoreFunction(renyi(0.5), 3),
    "score, renyi(-1)": lambda: ScoreFunction(renyi(-1.0), 2),
    "RLOO, K=2": lambda: LeaveOneOut(elbo, 2),
    "RLOO, K=3": lambda: LeaveOneOut(elbo, 3),
    "RLOO, arithmetic": lambda: LeaveOneOut(elbo, 3, mean="arithmetic"),
    "VIMCO, K=2": lambda: LeaveOneOut(iwae, 2),
    "VIMCO, K=3": lambda: LeaveOneOut(iwae, 3),
    "VIMCO, arithmetic": lambda: LeaveOneOut(iwae, 3, mean="arithmetic"),
    "leave one out, renyi": lambda: LeaveOneOut(renyi(0.5), 3),
    "leave one out, renyi(2)": lambda: LeaveOneOut(renyi(2.0), 2),
    "score, TVO": lambda: ScoreFunction(tvo((0, 0.1, 0.3, 1)), 3),
    "leave one out, TVO": lambda: LeaveOneOut(tvo(4), 3),
    "score, jackknife": lambda: ScoreFunction(jackknife(1), 2),
    "leave one out, jackknife": lambda: LeaveOneOut(jackknife(1), 3),
    "leave one out, jackknife(2)": lambda: LeaveOneOut(jackknife(2), 3),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("datum", [0, 1])
def test_mean_is_the_exact_gradient(name, datum):
    net, x, objective = small_net(), two_data()[[datum]], ESTIMATORS[name]()
    mean, variance, value = exact_moments(objective, net, x)
    truth, bound = exact_gradient(net, x, objective.bound, objective.num_particles)
    assert (mean - truth).abs().max() < 1e-10
    assert abs(value - bound) < 1e-10
    assert variance.min() > -1e-12 and variance.sum() > 1e-3  # it is an estimator, not the truth


@pytest.mark.parametrize("name", ["score", "score, iwae", "RLOO, K=2", "VIMCO, K=2", "leave one out, TVO"])
def test_two_layers(name):
    net, x = small_net((2, 2)), two_data()[:1]
    objective = ESTIMATORS[name]()
    objective.num_particles = min(objective.num_particles, 2)
    mean, _, _ = exact_moments(objective, net, x)
    assert (mean - exact_gradient(net, x, objective.bound, objective.num_particles)[0]).abs().max() < 1e-10


@pytest.mark.parametrize("make", [lambda: ScoreFunction(elbo, 1), lambda: LeaveOneOut(elbo, 2)])
def test_a_site_is_credited_with_what_depends_on_it_alone(make, monkeypatch):
    """The upper layer's draws change neither p(x | z_2) nor q(z_2 | x): without them, the same mean, less variance."""
    net, x = small_net((2, 2)), two_data()[:1]
    upper = torch.cat([torch.full((p.numel(),), "encoders.0" in n) for n, p in net.named_parameters()])
    lower = torch.cat([torch.full((p.numel(),), "encoders.1" in n) for n, p in net.named_parameters()])
    mean, variance, _ = exact_moments(make(), net, x)
    monkeypatch.setattr(Dependents, "signal", lambda self, drawn: drawn.log_weights)
    same, more, _ = exact_moments(make(), net, x)
    assert (mean - same).abs().max() < 1e-10
    assert variance[upper].sum() < 0.7 * more[upper].sum()
    assert torch.allclose(variance[lower], more[lower])  # all terms depend on the lower layer


def test_three_and_three_latents():
    """64 states: RLOO and VIMCO at K = 2 over all 4,096 pairs, the mean gradient in one backward pass."""
    net, x = small_net((3, 3)), two_data()[:1]
    for bound in (elbo, iwae):
        mean = exact_mean(LeaveOneOut(bound, 2), net, x)
        assert (mean - exact_gradient(net, x, bound, 2)[0]).abs().max() < 1e-10


def test_variances_of_the_field_notes_are_ordered():
    """Scores shrink by leave-one-out and by K; VIMCO is far below the plain score (notes D3)."""
    net, x = small_net(), two_data()[:1]
    total = {name: float(exact_moments(make(), net, x)[1].sum()) for name, make in ESTIMATORS.items()}
    assert total["RLOO, K=3"] < total["RLOO, K=2"] < total["score, K=2"] < total["score"]
    assert total["VIMCO, K=3"] < total["score, iwae"] / 5
    assert total["score, K=2"] == pytest.approx(total["score"] / 2, rel=1e-9)  # an average of two


def test_vimco_baselines_agree_at_two_particles():
    net, x = small_net(), two_data()[:1]
    geometric, arithmetic = (exact_moments(LeaveOneOut(iwae, 2, mean=m), net, x) for m in ("geometric", "arithmetic"))
    assert torch.allclose(geometric[0], arithmetic[0], atol=1e-13)
    assert torch.allclose(geometric[1], arithmetic[1], atol=1e-13)


@pytest.mark.parametrize("latent_sizes", [(2,), (2, 2)])
def test_local_expectation_is_unbiased(latent_sizes):
    net, x = small_net(latent_sizes), two_data()[:1]
    truth, _ = exact_gradient(net, x, elbo, 1)
    rows = sampled_gradients(LocalExpectation(), net, x, draws=2000)
    deviation = (rows.mean(0) - truth) / (rows.var(0) / len(rows)).sqrt().clamp(min=1e-9)
    assert deviation.abs().max() < 4.5  # 11 to 20 parameters


def test_local_expectation_has_no_variance_in_a_one_bit_guide():
    net, x = small_net((1,)), two_data()[:1]
    variance = sampled_gradients(LocalExpectation(), net, x, draws=100).var(0)
    guide = torch.cat([torch.full((p.numel(),), "encoder" in n) for n, p in net.named_parameters()])
    assert variance[guide].max() < 1e-20


@pytest.mark.parametrize("latent_sizes", [(2,), (3, 3)])
def test_exact_is_log_p(latent_sizes):
    net, x = small_net(latent_sizes), two_data()[:1]
    pair = pair_up(net.model, net.guide, (x,), {})
    log_p, log_q = enumerate_guide(pair, (x,), {})
    value = -Exact().differentiable_loss(net.model, net.guide, x)
    value = value.detach()
    assert abs(float(value - log_p.detach().logsumexp(0).sum())) < 1e-12
    elbo_value, posterior = (log_q.exp() * (log_p - log_q)).sum(0), log_p.log_softmax(0)
    divergence = (log_q.exp() * (log_q - posterior)).sum(0)
    assert abs(float(value - (elbo_value + divergence).detach().sum())) < 1e-8  # log p = elbo + KL(q || posterior)


def test_prior_sampling_tends_to_log_p():
    net, x = small_net(), two_data()
    exact = Exact().loss(net.model, net.guide, x)
    few = sum(PriorSampling(2).loss(net.model, net.guide, x) for _ in range(300)) / 300
    many = PriorSampling(20_000).loss(net.model, net.guide, x)
    assert few > exact + 0.02  # a loss above the exact one: a bound below log p(x)
    assert abs(many - exact) < 0.1
