"""The VAE with an autoregressive flow as prior, of dense networks."""

import pyro
import pytest
import torch
from pyro import poutine

from pplvm.bounds import elbo
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.autoregressive_flows import AutoregressiveFlowPrior
from pplvm.programs.vae import VAE
from pplvm.programs.vlae import vlae

D = 6


def test_it_is_composed_of_its_parts():
    program = vlae(D, 3, (5, 4), num_flows=3, flow_hidden_sizes=(7, 8))
    assert isinstance(program, VAE) and isinstance(program.prior, AutoregressiveFlowPrior)
    assert [flow.first.out_features for flow in program.prior.flows] == [7, 7, 7]
    assert program.encoder(torch.zeros(2, 1, 2, 3)).shape == (2, 6)


def test_it_starts_as_the_plain_vae():
    """Whose KL is the closed form that a flow has not."""
    program, x = vlae(D, 3, (5,)), torch.bernoulli(torch.full((4, D), 0.5))
    plain = VAE(latent_size=3, encoder=program.encoder, decoder=program.decoder, likelihood=program.likelihood)
    found = []
    for each in (program, plain):
        torch.manual_seed(1)
        found.append(draw_particles(each.model, each.guide, x, num_particles=3).log_weights)
    assert torch.equal(*found)
    torch.manual_seed(1)
    drawn = Loss(AnalyticKL(3), program)(x)
    assert drawn.isfinite() and torch.isclose(drawn, -found[0].mean())  # no closed form: by draws


def test_the_data_of_a_mixture_find_a_prior_with_two_modes():
    """Two clusters far apart under a decoder that cannot bend: only the prior can part them."""
    torch.manual_seed(0)
    x = torch.where(torch.rand(100, 1) < 0.5, -3.0, 3.0) + 0.3 * torch.randn(100, 2)
    found = {}
    for bent in (False, True):
        torch.manual_seed(1)
        program = vlae(2, 2, (), "gaussian", num_flows=2, flow_hidden_sizes=(30,))
        program.prior.flows.requires_grad_(bent)
        loss = Loss(Pathwise(elbo, 1), program)
        optimizer = torch.optim.Adam([p for p in program.parameters() if p.requires_grad], 2e-2)
        for _ in range(200):
            optimizer.zero_grad()
            loss(x).backward()
            optimizer.step()
        with torch.no_grad():
            found[bent] = float(draw_particles(program.model, program.guide, x, num_particles=50).log_weights.mean())
    assert found[True] > found[False] + 0.1, found


def test_the_prior_is_sampled_and_its_draws_are_its_own():
    program = vlae(D, 3, (5,), flow_hidden_sizes=(7,))
    with torch.no_grad():
        for parameter in program.prior.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    with pyro.plate("particles", 6, dim=-2):
        trace = poutine.trace(poutine.uncondition(program.model)).get_trace(torch.zeros(4, D))
    z = trace.nodes["z"]["value"]
    assert z.shape == (6, 4, 3)
    u = z
    for t in reversed(program.prior().transforms):
        u = t.inv(u)
    base = torch.distributions.Normal(0.0, 1.0)
    log_det = trace.nodes["z"]["fn"].log_prob(z.clone()) - base.log_prob(u).sum(-1)
    assert log_det.abs().max() > 0.1 and u.shape == (6, 4, 3)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"latent_size": 0}, "at least 1"),
        ({"hidden_sizes": (5, 0)}, "at least 1"),
        ({"flow_hidden_sizes": (0,)}, "at least 1"),
        ({"num_flows": 0}, "num_flows must be at least 1"),
        ({"likelihood": "poisson"}, "likelihood must be .* got 'poisson'"),
    ],
)
def test_bad_input(wrong, said):
    with pytest.raises(ValueError, match=said):
        vlae(D, **wrong)
