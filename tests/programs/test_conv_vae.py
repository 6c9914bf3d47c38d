"""The convolutional VAE: the contract of programs, tiers, the encoder once a datum, and what is refused."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.samples import prior_samples, reconstructions
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import inspect_pair
from pplvm.programs.conv_vae import ImageLikelihood, conv_vae
from pplvm.programs.likelihoods import Likelihood
from tests.programs.convolutional import images

SHAPE, B = (1, 8, 8), 4


def program(**words):
    torch.manual_seed(1)
    return conv_vae(**{"data_shape": SHAPE, "latent_size": 3, "channels": (4, 6)} | words)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("K", [1, 3])
def test_log_weights_are_particles_by_batch(shape, likelihood, K):
    made, x = program(data_shape=shape, likelihood=likelihood), images(B, shape)
    assert inspect_pair(made.model, made.guide, (x,), {})[2] == []
    found = draw_particles(made.model, made.guide, x, num_particles=K)
    assert found.log_weights.shape == (K, B) and found.log_weights.isfinite().all()


def test_a_datum_does_not_see_its_batch_and_a_particle_not_its_neighbours():
    made, x = program(), images(B)
    order = torch.tensor([2, 0, 3, 1])
    noise = torch.randn(3, B, 3)

    def weights(x, noise):
        q = made.encoder(x)
        z = q[:, :3] + q[:, 3:].exp() * noise
        log_p = made.likelihood(made.decoder(z)).log_prob(x.flatten(1))
        return log_p + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)

    found = weights(x, noise)
    torch.testing.assert_close(weights(x[order], noise[:, order]), found[:, order])
    torch.testing.assert_close(torch.cat([weights(x, each[None]) for each in noise]), found)


def test_every_parameter_gets_a_gradient():
    loss = Loss(Pathwise(iwae, 3), program(likelihood="gaussian"))
    loss(images(B)).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_it_is_pyros_elbo_on_the_same_noise():
    made, x = program(), images(B)
    loss = Loss(Pathwise(elbo, 1), made)
    loss(x)
    torch.manual_seed(5)
    ours = loss(x)
    torch.manual_seed(5)
    pyros = Trace_ELBO().differentiable_loss(made.model, made.guide, x) / B
    torch.testing.assert_close(ours, pyros)


@pytest.mark.parametrize(
    "make, tier",
    [
        (lambda: Pathwise(elbo, 3), "graph"),
        (lambda: Pathwise(iwae, 3), "graph"),
        (lambda: AnalyticKL(3), "graph"),
        pytest.param(lambda: Pathwise(iwae, 3), "inductor", marks=pytest.mark.slow),
    ],
)
def test_every_tier_gives_the_eager_value_and_gradient(make, tier):
    made, x, found = program(), images(B), []
    for each in ("off", tier):
        made.zero_grad()
        step = compiled(Loss(make(), made), each)
        step(x)
        torch.manual_seed(5)
        found.append((step.backward(x), [p.grad.clone() for p in made.parameters()]))
        assert step.tier_now == each
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("objective", [Pathwise(elbo, 3), Pathwise(iwae, 3), AnalyticKL(3)])
def test_the_encoder_runs_once_a_datum_and_the_decoder_once_a_particle(objective):
    made, x = program(), images(B)
    loss = Loss(objective, made)
    rows = {"encoder": [], "decoder": []}
    for name in rows:
        part = getattr(made, name).layers  # of the decoder, after z has been made an image
        part.register_forward_hook(lambda _, args, out, name=name: rows[name].append(args[0].shape[:-3]))
    loss(x)  # the first batch is checked, in runs of its own
    for seen in rows.values():
        seen.clear()
    loss(x)
    assert rows == {"encoder": [torch.Size([B])], "decoder": [torch.Size([3, B])]}


def test_it_starts_at_the_mean_of_the_data():
    mean = torch.rand(64).clamp(0.05, 0.95)
    made = program(data_mean=mean)
    found = prior_samples(made, torch.zeros(1, *SHAPE), 200).mean.mean(0).flatten()
    assert (found - mean).abs().max() < 0.1
    assert (prior_samples(program(), torch.zeros(1, *SHAPE), 200).mean.mean(0).flatten() - mean).abs().max() > 0.3
    made = program(likelihood="gaussian", data_mean=mean)
    torch.testing.assert_close(made.decoder.bias.flatten(), mean)


class Two(Likelihood):
    """Two numbers a value: mean and log scale, side by side."""

    @property
    def output_size(self):
        return 2 * self.data_size

    def forward(self, outputs):
        loc, log_scale = outputs.unflatten(-1, (-1, 2)).unbind(-1)
        return pyro.distributions.Normal(loc, log_scale.exp()).to_event(1)

    def bias(self, data_mean):
        return torch.stack([data_mean, torch.zeros_like(data_mean)], -1).flatten()


def test_a_likelihood_of_several_numbers_a_value_has_a_channel_for_each():
    likelihood = ImageLikelihood(Two(3 * 4 * 5), (3, 4, 5))
    assert likelihood.output_shape == (6, 4, 5)
    outputs = torch.randn(7, 2, 6, 4, 5)
    found = likelihood(outputs).base_dist
    torch.testing.assert_close(found.loc.unflatten(-1, (3, 4, 5)), outputs[..., 0::2, :, :])
    torch.testing.assert_close(found.scale.log().unflatten(-1, (3, 4, 5)), outputs[..., 1::2, :, :])
    mean = torch.rand(60)
    torch.testing.assert_close(likelihood(likelihood.bias(mean)).mean, mean)


def test_samples_and_reconstructions_are_images():
    made, x = program(), images(B)
    assert prior_samples(made, x[:1], 3).draw.shape == (3, *SHAPE)
    assert reconstructions(made, x).shape == x.shape
    trace = poutine.trace(poutine.uncondition(made.model)).get_trace(x)
    assert not torch.equal(trace.nodes["x"]["value"], x.flatten(1))


def test_a_state_dict_is_all_that_it_is():
    made, other, x = program(), conv_vae(SHAPE, 3, (4, 6)), images(B)
    other.load_state_dict(made.state_dict())
    found = []
    for each in (made, other):
        torch.manual_seed(2)
        found.append(draw_particles(each.model, each.guide, x, num_particles=2).log_weights)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "words, told",
    [
        ({"data_shape": (8, 8)}, r"the shape of an image is \(C, H, W\)"),
        ({"channels": (4,) * 4}, "8x8 can be halved 3 times"),
        ({"channels": (4, 0)}, "one number of at least 1 for each scale"),
        ({"likelihood": "bernouli"}, "likelihood must be 'bernoulli' or"),
        ({"latent_size": 0}, "latent_size must be an integer of at least 1, got 0"),
        ({"data_mean": torch.zeros(63)}, r"data_mean has 63 values, and an image of shape \(1, 8, 8\) 64"),
        ({"num_blocks": -1}, "num_blocks must be an integer of at least 0"),
    ],
)
def test_what_makes_no_program_is_refused_in_words(words, told):
    with pytest.raises(ValueError, match=told):
        program(**words)
