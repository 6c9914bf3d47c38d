"""The VAE's joint density written out, under both likelihoods, and composed of parts."""

import copy
import pickle
import re

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from pplvm.bounds import iwae
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.networks.leading_dims import LeadingDims
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.parts import GaussianLikelihood, StandardNormal, bernoulli
from pplvm.programs.vae import VAE
from tests.programs.convolutional import LATENT, convolutional, images

MEAN = torch.linspace(0, 1, 6, dtype=torch.float64)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_densities_by_hand(likelihood):
    vae = VAE(5, 2, (4, 3), likelihood)
    if likelihood == "gaussian":
        torch.nn.init.constant_(vae.log_scale, -0.7)
    x = torch.bernoulli(torch.full((3, 5), 0.5))
    found = draw_particles(vae.model, vae.guide, x, num_particles=4)
    z = found.guide_trace.nodes["z"]["value"]  # (K, B, Z)
    output = vae.decoder(z)
    p_x = Bernoulli(logits=output) if likelihood == "bernoulli" else Normal(output, torch.tensor(-0.7).exp())
    loc, log_scale = vae.encoder(x)[:, :2], vae.encoder(x)[:, 2:]
    torch.testing.assert_close(found.log_p, Normal(0.0, 1.0).log_prob(z).sum(-1) + p_x.log_prob(x).sum(-1))
    torch.testing.assert_close(found.log_q, Normal(loc, log_scale.exp()).log_prob(z).sum(-1))
    assert found.score_sites == () and not found.log_q_score.any()


def test_the_mean_of_the_data_is_where_it_starts():
    mean = torch.tensor([[0.2, 0.9], [0.0, 0.5]])
    clipped = torch.tensor([0.2, 0.9, 0.01, 0.5])
    torch.testing.assert_close(VAE(4, 2, (3,), data_mean=mean).decoder.last.bias.sigmoid(), clipped)
    torch.testing.assert_close(VAE(4, 2, (3,), "gaussian", mean).decoder.last.bias, mean.flatten())


def test_another_likelihood_is_refused():
    with pytest.raises(ValueError, match="likelihood must be 'bernoulli' or .*, got 'poisson'"):
        VAE(4, likelihood="poisson")


@pytest.mark.parametrize(
    ("name", "activation"),
    [("softplus", torch.nn.functional.softplus), ("tanh", torch.tanh), ("elu", torch.nn.functional.elu)],
)
def test_the_activation_by_hand(name, activation):
    vae, x = VAE(4, 2, (3,), activation=name), torch.randn(5, 4)
    for network, value in ((vae.encoder, x), (vae.decoder, x[:, :2])):
        first, last = network.layers[0], network.last
        expected = activation(value @ first.weight.T + first.bias) @ last.weight.T + last.bias
        torch.testing.assert_close(network(value), expected)


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="activation must be 'softplus', 'tanh', 'elu', got 'relu'"):
        VAE(4, activation="relu")


def test_saved_names_and_their_order_stay():
    names = [
        f"{coder}.layers.{n}.{part}" for coder in ("encoder", "decoder") for n in (0, 2) for part in ("weight", "bias")
    ]
    assert list(VAE(6, 2, (5,)).state_dict()) == ["zeros", *names]
    assert list(VAE(6, 2, (5,), "gaussian").state_dict()) == ["log_scale", "zeros", *names]


@pytest.mark.parametrize("K", [1, 50])
def test_a_convolutional_program_by_hand(K):
    program, x = convolutional(), images()
    seen = []
    program.encoder.register_forward_hook(lambda module, given, output: seen.append(given[0].shape))
    found = draw_particles(program.model, program.guide, x, num_particles=K)
    assert set(seen) == {x.shape}, "the encoder runs once a datum"
    z = found.guide_trace.nodes["z"]["value"].reshape(-1, 5, LATENT)  # (K, B, Z)
    assert len(z) == K
    for k in (0, K - 1):
        hidden = program.decoder.small(z[k]).reshape(5, -1, 4, 4)
        logits = program.decoder.large.layer(hidden)
        log_p = dist.Normal(0.0, 1.0).log_prob(z[k]).sum(-1) + dist.Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))
        torch.testing.assert_close(found.log_p[k], log_p)


def test_images_stored_without_a_channel_meet_the_likelihood_of_one_with():
    program, x = convolutional(), images()
    program.encoder = nn.Sequential(nn.Unflatten(1, (1, 8)), program.encoder)
    assert draw_particles(program.model, program.guide, x[:, 0], num_particles=2).log_weights.isfinite().all()


def test_it_trains_as_one_graph_at_fifty_particles():
    loss, x = Loss(Pathwise(iwae, 50), convolutional()), images()
    values = []
    for each in (loss, compiled(loss, "graph")):
        loss.zero_grad()
        torch.manual_seed(2)
        each(x).backward()
        values.append(torch.cat([p.grad.flatten() for p in loss.parameters()]))
    torch.testing.assert_close(*values)
    assert values[0].abs().sum() > 0


def test_labels_reach_the_parts_that_take_them():
    program, x, y = convolutional(num_classes=3), images(), torch.tensor([0, 1, 2, 0, 1])
    found = draw_particles(program.model, program.guide, x, y, num_particles=4)
    z = found.guide_trace.nodes["z"]["value"]
    by_hand, other = (
        dist.Bernoulli(logits=program.decoder(z, labels)).log_prob(x).sum((-1, -2, -3)) for labels in (y, y.flip(0))
    )
    torch.testing.assert_close(found.log_p - dist.Normal(0.0, 1.0).log_prob(z).sum(-1), by_hand)
    assert not torch.allclose(
        by_hand, dist.Bernoulli(logits=program.decoder(z, y.flip(0))).log_prob(x).sum((-1, -2, -3))
    )


def test_a_prior_and_an_encoder_of_labels():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(7, 4)

        def forward(self, x, y):
            return self.linear(torch.cat([x, y[:, None].to(x)], 1))

    prior = lambda y: dist.Normal(y[:, None].double().expand(-1, 2), 1.0).to_event(1)
    program = VAE(encoder=Both(), decoder=MLP(2, 6), likelihood=GaussianLikelihood(), prior=prior)
    x, y = torch.randn(4, 6), torch.arange(4)
    found = draw_particles(program.model, program.guide, x, y, num_particles=3)
    z = found.guide_trace.nodes["z"]["value"]
    torch.testing.assert_close(found.log_p_sites["z"], dist.Normal(y[:, None].double(), 1.0).log_prob(z).sum(-1))


class Tempered(nn.Module):
    def forward(self, z, temperature=2.0):
        return z.repeat(*[1] * (z.dim() - 1), 3) / temperature


@pytest.mark.parametrize(
    "make", [Tempered, lambda: LeadingDims(Tempered(), 1), lambda: LeadingDims(nn.Linear(2, 6), 1)]
)
def test_a_decoder_that_takes_no_labels_is_given_none(make):
    """Nor are they taken for an option of it, where six labels would pass as six temperatures."""
    decoder, encoder = make(), lambda x, y: torch.zeros(len(x), 4) + y[:, None]
    program, x, y = VAE(encoder=encoder, decoder=decoder, latent_size=2), torch.zeros(6, 6), torch.arange(6)
    found = draw_particles(program.model, program.guide, x, y, num_particles=3)
    by_hand = dist.Bernoulli(logits=decoder(found.guide_trace.nodes["z"]["value"])).log_prob(x).sum(-1)
    torch.testing.assert_close(found.log_p_sites["x"], by_hand)


def test_a_part_that_needs_a_condition_says_so_where_there_is_none():
    program = VAE(6, 2, encoder=lambda x, y: MLP(6, 4)(x))
    with pytest.raises(ValueError, match="a part, <lambda>, needs 1 of the data's conditions, and there are none"):
        program.guide(torch.zeros(4, 6))
    faulty = VAE(6, 2, encoder=lambda x: MLP(6, 4)(x, x))  # whose own error stays
    with pytest.raises(TypeError, match="forward"):
        faulty.guide(torch.zeros(4, 6))


def test_conditions_that_no_part_takes_are_refused():
    program = VAE(6, 2)
    with pytest.raises(ValueError, match="no part takes them: leave them out, .*forward\\(self, z, y\\)"):
        program.model(torch.zeros(4, 6), torch.zeros(4))


@pytest.mark.parametrize("likelihood, event", [(bernoulli, "(5,)"), (lambda p: dist.Bernoulli(logits=p), "()")])
def test_a_likelihood_of_another_size_is_refused(likelihood, event):
    program = VAE(encoder=MLP(6, 4), decoder=MLP(2, 5), likelihood=likelihood, latent_size=2)
    with pytest.raises(ValueError, match=re.escape(f"data of shape {event}, and these have shape (6,)")):
        program.model(torch.zeros(4, 6))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"encoder": "conv"}, "encoder must be a module or a function, got 'conv'"),
        ({"data_size": None}, "give data_size, of which dense networks are made, or both an encoder and a decoder"),
        ({"decoder": MLP(2, 6), "data_mean": MEAN}, "leave it out beside a decoder or likelihood of your own"),
        ({"likelihood": bernoulli, "data_mean": MEAN}, "leave it out beside a decoder or likelihood of your own"),
    ],
)
def test_parts_that_make_no_program_are_refused(settings, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        VAE(**{"data_size": 6, "latent_size": 2} | settings)


def test_dense_parts_given_by_hand_are_the_presets_to_the_bit():
    x, found = torch.bernoulli(torch.full((4, 1, 6), 0.5)), []
    for word in ("bernoulli", "gaussian"):
        torch.manual_seed(3)
        by_name = VAE(6, 2, (5, 4), word, MEAN)
        parts = {"encoder": nn.Sequential(nn.Flatten(1), by_name.encoder), "decoder": by_name.decoder}
        likelihood = bernoulli if word == "bernoulli" else GaussianLikelihood()
        by_hand = VAE(**parts, likelihood=likelihood, prior=StandardNormal(2))
        for program in (by_name, copy.deepcopy(by_name), by_hand):
            torch.manual_seed(4)
            program.zero_grad()
            (value := Loss(Pathwise(iwae, 3), program)(x)).backward()
            found.append([value.detach(), program.decoder.last.bias.grad.clone()])
        for other in found[-2:]:
            assert torch.equal(found[-3][0], other[0]) and torch.equal(found[-3][1], other[1])


def test_an_encoder_may_give_the_distribution_itself():
    scale = torch.tensor([0.5, 2.0])
    encoder = lambda x: dist.MultivariateNormal(x[:, :2], scale_tril=scale.diag())
    program, x = VAE(encoder=encoder, decoder=MLP(2, 6), latent_size=2), torch.bernoulli(torch.full((4, 6), 0.5))
    found = draw_particles(program.model, program.guide, x, num_particles=3)
    z = found.guide_trace.nodes["z"]["value"]
    torch.testing.assert_close(found.log_q, Normal(x[:, :2], scale).log_prob(z).sum(-1))


def test_a_copy_has_parts_of_its_own():
    program = VAE(6, 2, (5,), "gaussian")
    copied, loaded = copy.deepcopy(program), pickle.loads(pickle.dumps(program))
    for other in (copied, loaded):
        assert other.prior.__self__ is other.likelihood.__self__ is other
