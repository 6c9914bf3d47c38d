"""OverCodes: on codes that were computed once, log-weights and gradients are those of the whole program."""

import copy

import pytest
import torch

from pplvm.evaluation.encoding import encode
from pplvm.networks.codebook import Codebook
from pplvm.objectives.biased import BiasedPathwise
from pplvm.objectives.objective import Loss
from pplvm.objectives.penalized import Penalized
from pplvm.particles.draw import draw_particles
from pplvm.programs.over_codes import OverCodes
from pplvm.programs.pixelcnn_prior import ClassConditionalPixelCNNPrior, PixelCNNPrior
from pplvm.programs.vq_vae import VQVAE, vq_vae
from pplvm.programs.vq_vae_2 import vq_vae_2

B, D = 6, 16
SMALL = {"channels": 4, "kernel_sizes": (3, 3)}


def flat(prior):
    whole = vq_vae(D, grid=(2, 2), num_codes=4, code_size=3, hidden_sizes=(7,))
    return VQVAE(whole.encoder, Codebook(4, 3), whole.decoder, whole.likelihood, prior)


def plain():
    return flat(PixelCNNPrior(4, (2, 2), **SMALL)), ()


def by_class():
    return flat(ClassConditionalPixelCNNPrior(4, (2, 2), 3, **SMALL)), (torch.arange(B) % 3,)


def two_levels():
    return vq_vae_2((1, 4, 4), (2, 2), (1, 1), 3, 2, 4, prior="pixelcnn", prior_width=4), ()


def moved(program):
    """With a prior that is not uniform, as it starts."""
    for p in program.prior.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return program.eval()


@pytest.fixture(params=[plain, by_class, two_levels])
def pair(request):
    program, conditions = request.param()
    x = torch.bernoulli(torch.full((B, 1, 4, 4), 0.5))
    found = encode(moved(program), iter([(x[:4], *(y[:4] for y in conditions)), (x[4:], *(y[4:] for y in conditions))]))
    return program, OverCodes(program, found.sites, found.penalties), (x, *conditions), (found, conditions)


def test_log_weights_and_penalties_are_the_whole_programs(pair):
    whole, over, batch, (found, conditions) = pair
    coded = (found.index, found.terms, *conditions)
    truth = draw_particles(whole.model, whole.guide, *batch, num_particles=2)
    drawn = draw_particles(over.model, over.guide, *coded, num_particles=2)
    torch.testing.assert_close(drawn.log_weights, truth.log_weights, rtol=0, atol=1e-10)
    for name in found.sites:
        torch.testing.assert_close(drawn.log_p_sites[name], truth.log_p_sites[name], rtol=0, atol=1e-10)
    for name in found.penalties:
        own, other = (traces.guide_trace.nodes[name]["value"] for traces in (drawn, truth))
        torch.testing.assert_close(own.expand_as(other), other.detach(), rtol=0, atol=1e-12)
    wrong = ((found.index + 1) % 3, found.terms, *conditions)
    apart = draw_particles(over.model, over.guide, *wrong).log_weights - truth.log_weights
    assert apart.abs().max() > 1e-3


def test_the_priors_gradient_is_the_same(pair):
    whole, over, batch, (found, conditions) = pair
    objective = Penalized(BiasedPathwise(), {"commitment": 0.25, "codebook": 1.0})
    gradients = []
    for program, args in ((whole, batch), (over, (found.index, found.terms, *conditions))):
        learning = list(program.prior.parameters())
        gradients.append(torch.autograd.grad(Loss(objective, program)(*args), learning, allow_unused=True))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_it_is_a_view_and_so_are_copies_of_it(pair):
    whole, over, *_ = pair
    assert list(over.state_dict()) == list(whole.state_dict())
    assert [id(p) for p in over.parameters()] == [id(p) for p in whole.parameters()]
    other = copy.deepcopy(over)
    with torch.no_grad():
        for p in other.prior.parameters():
            p.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in other.whole.prior.parameters())
    assert not all(bool((p == 0.5).all()) for p in whole.prior.parameters())
    assert (over.default_objective, over.default_penalties) == (whole.default_objective, whole.default_penalties)
