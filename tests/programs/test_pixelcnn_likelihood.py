"""The PixelCNN as a likelihood behind a VAE: the bound beside it alone, what a pixel sees, and pixel dropout."""

import itertools

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli
from torch.func import jacrev

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.samples import prior_samples, reconstructions
from pplvm.graphs.compiled import compiled
from pplvm.networks.convolutional import ConvolutionalDecoder
from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.particles.draw import draw_particles
from pplvm.programs.pixelcnn_likelihood import PixelCNNLikelihood
from pplvm.programs.vae import VAE

H, W, C, Z = 3, 4, 5, 2


def awake(module, std=0.4):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def likelihood(pixel_dropout=0.0, size=(H, W)):
    torch.manual_seed(3)
    return awake(PixelCNNLikelihood(size, C, 8, (3, 3), pixel_dropout))


class Deaf(nn.Module):
    """A decoder that does not hear z: a learned map for all."""

    def __init__(self):
        super().__init__()
        self.map = nn.Parameter(torch.randn(C, H, W))

    def forward(self, z):
        return self.map.expand(*z.shape[:-1], -1, -1, -1)


class Broad(nn.Module):
    """A decoder whose map is linear in z, the same at all pixels."""

    def __init__(self):
        super().__init__()
        self.of_z = nn.Linear(Z, C)

    def forward(self, z):
        return self.of_z(z)[..., None, None]


def prior_as_posterior(x):
    return torch.zeros(len(x), 2 * Z)


def bits(rows):
    return torch.bernoulli(torch.full((rows, H, W), 0.5))


@pytest.mark.parametrize("bound", [elbo, iwae])
def test_under_a_deaf_decoder_and_the_prior_as_posterior_the_bound_is_its_log_likelihood(bound):
    p_x, decoder, x = likelihood().eval(), Deaf(), bits(4)
    program = VAE(latent_size=Z, encoder=prior_as_posterior, decoder=decoder, likelihood=p_x)
    expected = p_x(decoder.map).log_prob(x.flatten(1)).mean()
    for objective in (Pathwise(bound, 3), *([AnalyticKL(3)] if bound is elbo else [])):
        torch.testing.assert_close(-Loss(objective, program)(x), expected, rtol=0, atol=1e-10)
    program.decoder = Broad()
    assert (-Loss(Pathwise(bound, 3), program)(x) - expected).abs() > 1e-3, "one that hears z has another"


def test_it_sums_to_one_given_z_and_draws_have_its_frequencies():
    p_x = likelihood(size=(2, 2)).eval()(3 * torch.randn(3, C, 1, 1))
    values = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
    probability = p_x.log_prob(values[:, None]).exp().detach()  # (16, 3)
    torch.testing.assert_close(probability.sum(0), torch.ones(3))
    index = (p_x.sample((3000,)) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    counts = torch.stack([torch.bincount(each, minlength=16) for each in index.unbind(1)], 1)
    error = (probability * (1 - probability) / 3000).sqrt()
    assert ((counts / 3000 - probability) / error).abs().max() < 4.5
    assert ((counts.roll(1, 1) / 3000 - probability) / error).abs().max() > 4.5, "the maps differ"


def test_a_pixel_sees_those_before_it_within_reach_and_all_of_the_map():
    p_x, context = likelihood().eval(), torch.randn(C, H, W)
    slope = jacrev(lambda x: p_x(context).conditionals(x).logits)(torch.rand(H * W))
    rows, columns = torch.arange(H * W) // W, torch.arange(H * W) % W
    near = ((rows[:, None] - rows).abs() <= 2) & ((columns[:, None] - columns).abs() <= 2)
    before = torch.arange(H * W)[:, None] > torch.arange(H * W)
    assert p_x.network.reach == 2 and torch.equal(slope != 0, near & before)
    of_map = jacrev(lambda context: p_x(context).conditionals(torch.zeros(H * W)).logits)(context)
    assert (of_map.abs().amax((1, 2, 3)) > 0).all()


def test_pixel_dropout_is_nothing_in_evaluation_mode():
    context, x = torch.randn(4, C, H, W), bits(4).flatten(1)
    expected = likelihood(0.0).eval()(context).log_prob(x)
    for rate in (0.3, 1.0):
        p_x = likelihood(rate)
        assert torch.equal(p_x.eval()(context).log_prob(x), expected)
        assert not torch.equal(p_x.train()(context).log_prob(x), expected)


def test_at_a_rate_of_one_pixels_are_independent_given_z_and_predicted_all_the_same():
    p_x, context, x = likelihood(1.0).train(), torch.randn(4, C, H, W), bits(4).flatten(1)
    given, other = p_x(context), p_x(context + 1)
    logits = given.conditionals(x).logits
    assert torch.equal(logits, given.conditionals(1 - x).logits)
    assert not torch.equal(logits, other.conditionals(x).logits)
    torch.testing.assert_close(given.log_prob(x), Bernoulli(logits=logits).log_prob(x).sum(-1))
    hearing = likelihood(0.9).train()(context)
    assert not torch.equal(hearing.conditionals(x).logits, hearing.conditionals(1 - x).logits)


def test_dropout_hides_a_pixel_from_those_after_it_at_its_rate():
    """Of one pixel, seen by the next: its logit is one of two, that of a pixel seen or that of none."""
    p_x, context, x = likelihood(0.3).train(), torch.randn(C, H, W).expand(4000, -1, -1, -1), torch.ones(4000, H * W)
    logits = p_x(context).conditionals(x).logits[:, 1]  # sees pixel 0 alone
    share = float((logits > logits.mean()).double().mean())
    share = min(share, 1 - share)
    assert torch.isclose(logits, logits.min()).logical_or(torch.isclose(logits, logits.max())).all()
    assert abs(share - 0.3) < 4.5 * (0.3 * 0.7 / 4000) ** 0.5


def pixel_vae(pixel_dropout=0.0):
    encoder = nn.Sequential(nn.Flatten(), MLP(64, 2 * Z, (6,)))
    decoder = ConvolutionalDecoder(Z, (C, 8, 8), channels=(4,))
    p_x = PixelCNNLikelihood((8, 8), C, 4, (3, 3), pixel_dropout)
    return VAE(latent_size=Z, encoder=encoder, decoder=decoder, likelihood=p_x)


def test_a_vae_of_particles_learns_samples_and_decodes():
    program = pixel_vae()
    x = torch.bernoulli(torch.full((6, 1, 8, 8), 0.5))
    found = draw_particles(program.model, program.guide, x, num_particles=3)
    assert found.log_weights.shape == (3, 6)
    awake(program)
    loss = Loss(Pathwise(iwae, 3), program)
    loss(x).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in program.parameters())
    assert prior_samples(program.eval(), x[:1], 4).draw.shape == (4, 1, 8, 8)
    assert reconstructions(program, x).shape == x.shape


@pytest.mark.parametrize("pixel_dropout", [0.0, 0.4])
def test_as_one_graph_it_is_the_same(pixel_dropout):
    program = awake(pixel_vae(pixel_dropout), 0.2)
    x, found = torch.bernoulli(torch.full((6, 1, 8, 8), 0.5)), []
    for loss in (Loss(Pathwise(iwae, 2), program), compiled(Loss(Pathwise(iwae, 2), program), "graph")):
        for batch in (x, x.flip(0)):
            torch.manual_seed(5)
            found.append(loss(batch))
    torch.testing.assert_close(torch.stack(found[:2]), torch.stack(found[2:]))
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"pixel_dropout": 1.5}, "pixel_dropout is a probability"),
        ({"context_channels": 0}, "context_channels must be at least 1"),
        ({"kernel_sizes": (2,)}, "odd"),
        ({"size": (0, 3)}, "at least 1"),
    ],
)
def test_bad_input(wrong, said):
    with pytest.raises(ValueError, match=said):
        PixelCNNLikelihood(**{"size": (2, 2), "context_channels": 3} | wrong)
