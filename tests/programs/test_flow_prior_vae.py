"""The VAE with a flow prior: at its start a plain VAE, later not; one graph gives the eager values."""

import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.flow_prior_vae import flow_prior_vae
from pplvm.programs.parts import StandardNormal
from pplvm.programs.vae import VAE

B, D = 4, 6


def a_program(moved=True, **more):
    program = flow_prior_vae(D, 3, (5,), num_couplings=2, flow_hidden_sizes=(4,), **more)
    if moved:
        for each in program.prior.networks:
            nn.init.normal_(each.last.weight)
    return program


@pytest.fixture
def x():
    return torch.bernoulli(torch.full((B, D), 0.5))


def log_weights(program, x, K=2):
    torch.manual_seed(1)
    return draw_particles(program.model, program.guide, x, num_particles=K).log_weights


def test_it_starts_as_a_vae_of_the_same_networks(x):
    program = a_program(moved=False)
    plain = VAE(
        encoder=program.encoder, decoder=program.decoder, likelihood=program.likelihood, prior=StandardNormal(3)
    )
    assert torch.equal(log_weights(program, x), log_weights(plain, x))
    assert (log_weights(a_program(), x) - log_weights(plain, x)).abs().max() > 1e-3


def test_log_weights_are_those_written_by_hand(x):
    program = a_program()
    torch.manual_seed(1)
    found = draw_particles(program.model, program.guide, x, num_particles=3)
    z = found.guide_trace.nodes["z"]["value"]
    loc, log_scale = program.encoder(x).chunk(2, -1)
    q = torch.distributions.Normal(loc, log_scale.exp()).log_prob(z).sum(-1)
    logits = program.decoder(z)
    p_x = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1)
    torch.testing.assert_close(found.log_weights, p_x + program.prior().log_prob(z.clone()) - q)


@pytest.mark.parametrize(
    "objective", [Pathwise(elbo, 1), Pathwise(iwae, 3), AnalyticKL()], ids=["elbo", "iwae", "analytic-kl"]
)
def test_one_graph_is_eager(objective, x):
    program = a_program()
    found = []
    for each in (Loss(objective, program), compiled(Loss(objective, program), "graph")):
        program.zero_grad()
        torch.manual_seed(3)
        loss = each(x)
        loss.backward()
        found.append([loss.detach(), *[p.grad.clone() for p in program.parameters()]])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_pyros_elbo(x):
    program = a_program()
    torch.manual_seed(3)
    pyros = Trace_ELBO().loss(program.model, program.guide, x)
    torch.manual_seed(3)
    ours = -draw_particles(program.model, program.guide, x).log_weights.sum()
    torch.testing.assert_close(torch.tensor(pyros), ours.detach())


def test_the_decoder_starts_at_the_mean_of_the_data():
    mean = torch.linspace(0.1, 0.9, D)
    program = a_program(data_mean=mean)
    torch.testing.assert_close(program.decoder.last.bias.sigmoid(), mean)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="latent_size must be at least 2 for a coupling, got 1"):
        flow_prior_vae(D, 1)
    with pytest.raises(ValueError, match="num_couplings must be a positive even number, got 5"):
        flow_prior_vae(D, num_couplings=5)
    with pytest.raises(ValueError, match="likelihood must be"):
        flow_prior_vae(D, likelihood="poisson")
