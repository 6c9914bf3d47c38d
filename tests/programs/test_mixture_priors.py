"""Mixtures as priors: by hand, at all data as pseudo-inputs, one encoder for both roles, and what of it is shared."""

import copy
import pickle

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation.information import aggregate_posterior
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.wake_sleep import WakeSleep
from pplvm.particles.draw import draw_particles
from pplvm.programs.mixture_priors import MixtureOfGaussiansPrior, VampPrior
from pplvm.programs.parts import StandardNormal
from pplvm.programs.vae import VAE

D, Z = 6, 2


def binary(N=9):
    return torch.bernoulli(torch.full((N, D), 0.4), generator=torch.Generator().manual_seed(3))


def under_vamp(pseudo_inputs, bounds=(0.0, 1.0)):
    encoder = MLP(D, 2 * Z, (5,))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(3)
    return VAE(encoder=encoder, decoder=MLP(Z, D, (5,)), prior=VampPrior(encoder, pseudo_inputs, bounds))


def test_with_all_data_as_pseudo_inputs_it_is_the_aggregate_posterior():
    """Its KL is 0 and the rate the mutual information, which no other prior gives."""
    x = binary()
    found = aggregate_posterior(under_vamp(x, None), x, num_particles=50)
    assert found.marginal.abs().max() < 1e-10
    torch.testing.assert_close(found.rate.mean(), found.information.mean(), atol=1e-10, rtol=0)
    assert found.information.mean() > 0.1
    for other in (under_vamp(x[:-1], None), VAE(encoder=MLP(D, 2 * Z), decoder=MLP(Z, D), latent_size=Z)):
        assert aggregate_posterior(other, x, num_particles=50).marginal.abs().max() > 1e-3


def test_by_hand():
    program, x = under_vamp(torch.rand(4, D)), binary()
    with torch.no_grad():
        program.prior.pseudo_inputs.mul_(3).sub_(1)
    found = draw_particles(program.model, program.guide, x, num_particles=3)
    z = found.guide_trace.nodes["z"]["value"]
    loc, log_scale = program.encoder(program.prior.pseudo_inputs.clamp(0, 1)).chunk(2, -1)
    each = torch.distributions.Normal(loc, log_scale.exp()).log_prob(z[..., None, :]).sum(-1)
    torch.testing.assert_close(found.log_p_sites["z"], each.exp().mean(-1).log())


def test_pixels_learn_wherever_they_start_and_not_once_they_have_left_the_bounds():
    for bounds, expected in (((0.0, 1.0), [False, True, False]), (None, [True] * 3)):
        prior = under_vamp(binary(4), bounds).prior
        prior().log_prob(torch.ones(Z)).backward()
        assert (prior.pseudo_inputs.grad != 0).all()
        with torch.no_grad():
            prior.pseudo_inputs[0, :3] = torch.tensor([-0.5, 0.5, 1.5])
        prior.zero_grad()
        prior().log_prob(torch.ones(Z)).backward()
        assert (prior.pseudo_inputs.grad[0, :3] != 0).tolist() == expected


def test_the_encoder_runs_once_in_each_role_and_learns_from_both():
    program, x = under_vamp(torch.rand(4, D)), binary()
    sizes = []
    handle = program.encoder.register_forward_hook(lambda module, given, output: sizes.append(len(given[0])))
    draw_particles(program.model, program.guide, x)
    handle.remove()
    assert sizes[-2:] == [len(x), 4]
    parts = Loss(AnalyticKL(), program).parts(x)
    assert parts["guide"] == [] and len(parts["model"]) == len(list(program.parameters())) == 9


def test_a_copy_shares_its_encoder_with_its_own_prior_and_saved_weights_come_back():
    program, x = under_vamp(torch.rand(4, D)), binary()
    for other in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        assert other.prior.encoder is other.encoder is not program.encoder
    other = under_vamp(torch.rand(4, D))
    other.load_state_dict(program.state_dict())
    values = []
    for each in (program, other):
        torch.manual_seed(1)
        values.append(Loss(Pathwise(), each)(x))
    assert torch.equal(*values)


def test_wake_sleep_gives_the_encoder_both_gradients():
    """Of log p at the guide's draws, through the prior, and of log q at the model's dreams."""
    program, x = under_vamp(torch.rand(4, D)), binary()
    Loss(WakeSleep(), program)(x).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in program.parameters())


@pytest.mark.parametrize("make", [lambda: under_vamp(torch.rand(4, D)), lambda: mixed(3)])
def test_one_graph(make):
    program, x = make(), binary()
    for objective in (AnalyticKL(3), WakeSleep(2)):
        loss, found = Loss(objective, program), []
        for each in (loss, compiled(loss, "graph")):
            loss.zero_grad()
            torch.manual_seed(2)
            value = each(x)
            value.backward()
            found.append(torch.cat([value.detach()[None], *[p.grad.flatten() for p in loss.parameters()]]))
        torch.testing.assert_close(*found)


def mixed(components):
    return VAE(D, Z, (5,), prior=MixtureOfGaussiansPrior(Z, components))


def test_a_learned_mixture_by_hand_and_of_one_standard_component():
    prior, z = MixtureOfGaussiansPrior(Z, 4), torch.randn(7, Z)
    with torch.no_grad():
        prior.logits.copy_(torch.randn(4))
        prior.log_scales.copy_(torch.randn(4, Z))
    components = dist.Normal(prior.locs, prior.log_scales.exp()).to_event(1)
    expected = dist.MixtureSameFamily(dist.Categorical(logits=prior.logits), components).log_prob(z)
    torch.testing.assert_close(prior().log_prob(z), expected)
    one = MixtureOfGaussiansPrior(Z, 1)
    nn.init.zeros_(one.locs)
    torch.testing.assert_close(one().log_prob(z), StandardNormal(Z)().log_prob(z), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: MixtureOfGaussiansPrior(2, 0), "num_components must be at least 1, got 0"),
        (lambda: VampPrior(MLP(6, 4), torch.rand(0, 6)), "there are no pseudo-inputs"),
    ],
)
def test_priors_without_components_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
