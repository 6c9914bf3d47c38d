"""Annealed weights are unbiased whatever the steps, and log p(x) is met where the guide is off by nats."""

import pyro.distributions as dist
import pytest
import torch

from pplvm.evaluation.annealing.annealed import anneal_chains, annealed, betas_of
from pplvm.evaluation.annealing.path import AnnealingPath
from pplvm.evaluation.annealing.transitions import Tally, tuned_step_sizes
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.particles.pair import pair_up
from pplvm.programs.vae import VAE
from tests.evaluation.annealing_problems import Codes, GammaPoisson, Mixed, Nested, Simplex, Walled, no_jacobian, z_of
from tests.problems import linear_gaussian, small_net, states_of, two_data

LIMIT = 5.0


def log_evidence(program, x):
    """In closed form where the program knows it, else by enumeration, (N,)."""
    if hasattr(program, "log_evidence"):
        return program.log_evidence(x).detach()
    with torch.no_grad():
        return states_of(pair_up(program.model, program.guide, (x,), {}), x)[1].logsumexp(0)


def errors_of(program, x, start, steps=4, chains=4000):
    """Of the mean weight of each datum about p(x), in standard errors."""
    found = annealed(program, x, chains=chains, steps=steps, start=start)
    relative = (found.log_weights - log_evidence(program, x)[:, None]).exp() - 1
    return [z_of(each) for each in relative]


KNOWN = {
    "gaussian": (linear_gaussian, [[0.5, -1.0, 1.0], [1.0, 0.2, 0.0]]),
    "positive": (GammaPoisson, [1.0, 4.0]),
    "simplex": (Simplex, [[1.0, 4.0, 0.0], [2.0, 2.0, 1.0]]),
    "mixed": (Mixed, [0.9, -3.0]),
    "nested": (Nested, [[0.3, -0.8, 1.0], [2.0, 2.0, 2.0]]),
    "layers": (lambda: small_net((2, 3)), [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
    "codes": (Codes, [4.0, 13.0]),
    "walled": (Walled, [0.3, 2.0]),
}


def known(name):
    build, x = KNOWN[name]
    return build(), torch.tensor(x)


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("name", KNOWN)
def test_weights_are_unbiased_after_few_steps(name, start):
    program, x = known(name)
    assert max(map(abs, errors_of(program, x, start))) < LIMIT


def test_weights_without_jacobian_are_not(monkeypatch):
    no_jacobian(monkeypatch)
    for name in ("positive", "simplex"):
        assert max(map(abs, errors_of(*known(name), "guide"))) > 2 * LIMIT


@pytest.mark.parametrize("build", [linear_gaussian, lambda: small_net((2, 3))])
def test_reversed_weights_are_unbiased_for_the_inverse(build):
    """From exact posterior draws, E[1 / w] = 1 / p(x)."""
    program, K, betas = build(), 4000, betas_of("sigmoidal", 4)
    x = two_data()[:1]
    with evaluation_mode(program, x) as pair:
        path = AnnealingPath.of(pair, x, "guide")
        sizes = tuned_step_sizes(path, betas[1:-1])
        posterior = path.hold(posterior_draws(program, pair, x, K), K)
        log_weights = anneal_chains(path, posterior, betas, sizes, Tally(), backwards=True)
    assert abs(z_of((log_evidence(program, x) - log_weights).exp() - 1)) < LIMIT


def posterior_draws(program, pair, x, K):
    if hasattr(program, "covariance"):
        mean = program.covariance() @ program.weight.T @ (x[0] - program.bias) / program.s**2
        return {"z": dist.MultivariateNormal(mean, program.covariance()).sample((K, 1))}
    values, log_p, _ = states_of(pair, x)
    first = log_p[:, 0].softmax(0).multinomial(K, replacement=True)
    return {name: value[first].unsqueeze(1) for name, value in values.items()}


def off_by_nats(name):
    """A guide so bad that sixteen draws miss the posterior."""
    if name == "layers":
        program, x = small_net((3, 6), 10), torch.tensor([[1.0, 0.0] * 5])
        with torch.no_grad():
            for encoder in program.encoders:
                encoder.last.weight *= 0.1
                encoder.last.bias.copy_(torch.where(torch.rand(encoder.last.bias.shape) < 0.5, 2.5, -2.5))
        return program, x
    program, x = known(name)
    if name == "gaussian":
        with torch.no_grad():
            program.encoder.bias += 2.0
    return program, {"positive": torch.tensor([12.0]), "mixed": torch.tensor([4.0])}.get(name, x[:1])


@pytest.mark.parametrize("name", ["gaussian", "positive", "mixed", "layers"])
def test_log_evidence_is_met_from_a_guide_that_is_off(name):
    program, x = off_by_nats(name)
    truth, plain = log_evidence(program, x), annealed(program, x, steps=1)
    assert float(truth - plain.log_px) > 1.0  # importance sampling alone
    found = annealed(program, x, chains=64, steps=50)
    error = float((found.ess.reciprocal() - 1 / 64).sqrt())  # of the log of the mean weight
    assert error < 0.35
    assert abs(float(found.log_px - truth)) < 4 * error


def test_one_step_is_importance_sampling_and_takes_no_transition():
    program, x = linear_gaussian().at_posterior(), torch.randn(2, 3)
    found = annealed(program, x, chains=3, steps=1)
    assert torch.allclose(found.log_weights, log_evidence(program, x)[:, None].expand(2, 3))
    assert found.acceptance.isnan().all() and torch.allclose(found.ess, torch.tensor(3.0))
    assert [figure.name for figure in found.figures] == ["log p(x), annealed", "chains that count"]


@pytest.mark.parametrize("chains", [1, 3])
@pytest.mark.parametrize("name", KNOWN)
def test_data_do_not_disturb_each_other(name, chains):
    program, x = known(name)
    whole = annealed(program, x, chains=chains, steps=3)
    assert whole.log_weights.shape == (2, chains) and not whole.log_weights.isnan().any()
    assert torch.equal(whole.log_weights.flip(0), annealed(program, x.flip(0), chains=chains, steps=3).log_weights)
    assert torch.equal(whole.log_weights[1:], annealed(program, x[1:], chains=chains, steps=3).log_weights)
    assert not torch.equal(whole.log_weights, annealed(program, x, chains=chains, steps=3, seed=1).log_weights)


def test_single_precision_and_what_is_left_behind():
    torch.set_default_dtype(torch.float32)
    program, x, state = VAE(6, 2, (5,)), torch.rand(2, 6).round(), torch.get_rng_state()
    found = annealed(program, x, chains=4, steps=5)
    assert found.log_px.dtype is torch.float64 and found.log_px.isfinite().all()
    assert all(p.grad is None for p in program.parameters()) and program.training
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_default_dtype(torch.float64)


def test_figures_say_how():
    found = annealed(Mixed(), torch.tensor([0.1, 0.5]), chains=4, steps=6)
    evidence, ess, trajectories, flips = found.figures
    assert evidence.value == pytest.approx(float(found.log_px.mean())) and evidence.unit == "nats"
    assert "lower bound" in evidence.note and "4 chains of 6 steps from the guide" in evidence.note
    assert 1 <= ess.value <= 4 and 0 < trajectories.value <= 1 and 0 < flips.value <= 1


def test_schedules():
    for schedule in ("sigmoidal", "linear"):
        betas = torch.tensor(betas_of(schedule, 10))
        assert betas[0] == 0 and betas[-1] == 1 and (betas.diff() > 0).all()
        assert torch.allclose(betas, 1 - betas.flip(0))
    assert torch.allclose(betas, torch.linspace(0, 1, 11))


def test_what_is_no_count_or_schedule_is_refused():
    program, x = linear_gaussian(), torch.zeros(1, 3)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        annealed(program, x, steps=0)
    with pytest.raises(ValueError, match="chains must be an integer of at least 1, got 2.0"):
        annealed(program, x, chains=2.0)
    with pytest.raises(ValueError, match="'sigmoidal' or 'linear', got 'cosine'"):
        annealed(program, x, schedule="cosine")
    with pytest.raises(ValueError, match="start must be 'guide' or 'prior', got 'posterior'"):
        annealed(program, x, start="posterior")
    with pytest.raises(ValueError, match="no data"):
        annealed(program, x[:0])
