"""The delta-VAE by hand, and its floor, below which no encoder, no training and no datum comes."""

import re

import pytest
import torch

from pplvm.bounds import iwae
from pplvm.evaluation.information import aggregate_posterior
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.objectives.tempered import Beta
from pplvm.particles.draw import draw_particles
from pplvm.programs.delta_vae import DeltaVAE

D = 6


def binary(N=20):
    return torch.bernoulli(torch.full((N, D), 0.4))


def rates(program, x):
    """KL(q(z | x) || p(z)) of each datum, in closed form."""
    (found,) = closed_forms(draw_particles(program.model, program.guide, x)).values()
    return found.flatten()


def test_by_hand():
    program, x = DeltaVAE(D, 6, (5,), alpha=(0.3, 0.8), length=3), binary(4)
    found = draw_particles(program.model, program.guide, x, num_particles=3)
    z = found.guide_trace.nodes["z"]["value"]  # (K, B, n, d)
    assert z.shape == (3, 4, 3, 2)
    alpha = torch.tensor([0.3, 0.8])
    normal = torch.distributions.Normal
    steps = normal(alpha * z[..., :-1, :], (1 - alpha**2).sqrt()).log_prob(z[..., 1:, :]).sum((-1, -2))
    torch.testing.assert_close(found.log_p_sites["z"], normal(0.0, 1.0).log_prob(z[..., 0, :]).sum(-1) + steps)
    loc, log_scale = program.encoder(x).reshape(4, 2, 3, 2).unbind(1)
    torch.testing.assert_close(found.log_q, normal(loc, log_scale.exp()).log_prob(z).sum((-1, -2)))
    p_x = torch.distributions.Bernoulli(logits=program.decoder(z.reshape(3, 4, 6)))
    torch.testing.assert_close(found.log_p_sites["x"], p_x.log_prob(x).sum(-1))


@pytest.mark.parametrize("settings", [{"alpha": 0.9}, {"alpha": (0.2, 0.5)}, {}, {"latent_size": 4, "length": 2}])
def test_the_rate_is_never_below_its_floor_nor_after_training_that_pays_for_every_nat(settings):
    """At beta = 20 a VAE's rate would be 0; this one's comes to its floor from above, and stays there."""
    torch.manual_seed(5)
    made = {"data_size": D, "latent_size": 8, "hidden_sizes": (5,)} | settings
    program, x = DeltaVAE(**made), binary()
    floor = program.minimum_rate()
    assert floor > 0.02
    for scale in (0.0, 1.0, 3.0):  # whatever the encoder gives
        for _ in range(20):
            with torch.no_grad():
                for parameter in program.encoder.parameters():
                    parameter.copy_(scale * torch.randn_like(parameter) / 2)
            assert (rates(program, x) >= floor).all()
    program = DeltaVAE(**made)
    loss = Loss(Beta(AnalyticKL(), 20.0), program)
    optimizer = torch.optim.Adam(program.parameters(), lr=0.02)
    for step in range(400):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
        if step % 20 == 0:
            assert (rates(program, x) >= floor).all()
    assert (rates(program, x) >= floor).all() and rates(program, x).mean() < floor + 0.5


def test_the_floor_of_one_step_would_be_none_and_grows_with_alpha_and_length():
    floor = lambda alpha, n: DeltaVAE(D, 2 * n, alpha=alpha, length=n).minimum_rate()
    assert floor(0.9, 4) > floor(0.5, 4) > floor(0.5, 2) > floor(0.01, 2) > 0
    assert floor(0.5, 4) == pytest.approx(2 * (2 * torch.tensor(1.25).log() - torch.tensor(0.75).log()).item() / 2)


def test_the_rate_that_evaluate_tells_is_above_the_floor():
    program, x = DeltaVAE(D, 8, (5,), alpha=0.7), binary()
    found = aggregate_posterior(program, x, num_particles=200)
    assert float(found.rate.mean()) > program.minimum_rate()


def test_it_learns():
    program, x = DeltaVAE(D, 8, (5,), data_mean=binary().mean(0)), binary()
    loss, optimizer = Loss(Pathwise(iwae, 5), program), torch.optim.Adam(program.parameters(), lr=0.01)
    first = float(loss(x).detach())
    for _ in range(100):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    assert float(loss(x).detach()) < first - 0.3


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"alpha": 0.0}, "alpha must lie in (0, 1), got 0"),
        ({"alpha": 1}, "alpha must lie in (0, 1), got 1: at 0 the rate has no floor, at 1 z has no density"),
        ({"alpha": (0.5, 0.5, 1.5, 0.5)}, "alpha must lie in (0, 1), got 1.5"),
        ({"alpha": float("nan")}, "alpha must lie in (0, 1), got nan"),
        ({"alpha": (0.5, 0.5)}, "alpha has 2 numbers for latents of 4 a step: give one number, or 4"),
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"latent_size": 10}, "latent_size must be a multiple of length, 4 steps of d numbers, got 10"),
        ({"latent_size": 0}, "latent_size must be an integer of at least 1, got 0"),
        ({"likelihood": "poisson"}, "likelihood must be 'bernoulli' or"),
    ],
)
def test_what_makes_no_program_is_refused(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        DeltaVAE(D, **settings)
