"""Programs composed of parts: their densities by hand, every dimension left of the data's, and who sees conditions."""

import re
from functools import partial

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import iwae
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.autoencoder import ComposedVAE
from pplvm.programs.parts import GaussianLikelihood, StandardNormal, bernoulli
from pplvm.programs.presets import bernoulli_vae, gaussian_vae
from pplvm.programs.vae import VAE
from tests.programs.convolutional import LATENT, Encoder, convolutional, images

MEAN = torch.linspace(0, 1, 6, dtype=torch.float64)


@pytest.mark.parametrize("preset, word", [(bernoulli_vae, "bernoulli"), (gaussian_vae, "gaussian")])
def test_a_preset_is_the_dense_program_to_the_bit(preset, word):
    x, found = torch.bernoulli(torch.full((4, 1, 6), 0.5)), []
    for make in (partial(VAE, likelihood=word), preset):
        torch.manual_seed(3)
        loss = Loss(Pathwise(iwae, 3), make(6, 2, (5, 4), data_mean=MEAN))
        (value := loss(x)).backward()
        named = {name.replace("encoder.1", "encoder"): p for name, p in loss.program.named_parameters()}
        found.append([value.detach(), *(p.grad for name, p in sorted(named.items()) if "coder" in name)])
    assert len(found[0]) == 13
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


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
    program = ComposedVAE(Both(), MLP(2, 6), GaussianLikelihood(), prior)
    x, y = torch.randn(4, 6), torch.arange(4)
    found = draw_particles(program.model, program.guide, x, y, num_particles=3)
    z = found.guide_trace.nodes["z"]["value"]
    torch.testing.assert_close(found.log_p_sites["z"], dist.Normal(y[:, None].double(), 1.0).log_prob(z).sum(-1))


def test_conditions_that_no_part_takes_are_refused():
    program = bernoulli_vae(6, 2)
    with pytest.raises(ValueError, match="the data have conditions, and no part takes them: .*forward\\(self, z, y\\)"):
        program.model(torch.zeros(4, 6), torch.zeros(4))


@pytest.mark.parametrize("likelihood, event", [(bernoulli, "(5,)"), (lambda p: dist.Bernoulli(logits=p), "()")])
def test_a_likelihood_of_another_size_is_refused(likelihood, event):
    program = ComposedVAE(MLP(6, 4), MLP(2, 5), likelihood, StandardNormal(2))
    with pytest.raises(ValueError, match=re.escape(f"data of shape {event}, and these have shape (6,)")):
        program.model(torch.zeros(4, 6))


def test_a_part_that_is_none_is_refused():
    with pytest.raises(TypeError, match="ComposedVAE: prior must be a module or a function, got None"):
        ComposedVAE(Encoder((1, 8, 8)), MLP(2, 64), bernoulli, None)
