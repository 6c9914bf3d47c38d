"""Samples at a temperature: known covariances, statistics recomputed on a copy, and what is refused."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.samples import prior_samples
from pplvm.evaluation.temperature import BATCH, BATCHES, recompute_statistics
from pplvm.programs.hyperspherical_vae import HypersphericalVAE
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.vae import VAE
from tests.problems import linear_gaussian, small_net

COUNT = 20_000


def standard_errors(draws, covariance):
    """By how many standard errors a sample covariance differs from a known one, entry by entry."""
    both = covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()
    return (draws.T.cov() - covariance).abs() / (both / len(draws)).sqrt()


@pytest.mark.parametrize("temperature", [0.5, 0.9, 1.5])
def test_a_linear_gaussian_model_has_the_covariance_of_its_latents_times_the_square(temperature):
    program = linear_gaussian()
    W, noise = program.weight.detach(), program.s**2 * torch.eye(3)
    found = prior_samples(program, torch.zeros(1, 3), COUNT, temperature=temperature)
    assert standard_errors(found.draw, temperature**2 * W @ W.T + noise).max() < 4.5
    assert standard_errors(found.draw, W @ W.T + noise).max() > 8  # at temperature one
    assert standard_errors(found.draw, temperature**2 * (W @ W.T + noise)).max() > 8  # the noise of the data too
    assert standard_errors(found.mean, temperature**2 * W @ W.T)[0, 0] < 4.5


def test_temperature_one_is_the_model_itself():
    vae = VAE(6, 2, (5,))
    plain, one = prior_samples(vae, torch.zeros(1, 6), 7), prior_samples(vae, torch.zeros(1, 6), 7, temperature=1.0)
    assert torch.equal(plain.draw, one.draw) and torch.equal(plain.mean, one.mean)
    near = prior_samples(vae, torch.zeros(1, 6), 7, temperature=1 + 1e-9)
    torch.testing.assert_close(near.mean, plain.mean)


class Chain(nn.Module):
    """z_2 ~ N(0, 1), z_1 ~ N(z_2, 1), x ~ N(z_1, 0.1^2): each latent is scaled about its own mean."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            upper = pyro.sample("z_2", dist.Normal(0.0, 1.0))
            lower = pyro.sample("z_1", dist.Normal(upper, 1.0))
            pyro.sample("x", dist.Normal(lower.unsqueeze(-1), 0.1).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z_1", dist.Normal(pyro.sample("z_2", dist.Normal(x[:, 0], 1.0)), 1.0))


def test_every_latent_of_a_hierarchy_is_scaled():
    found = prior_samples(Chain(), torch.zeros(1, 1), COUNT, temperature=0.5)
    assert standard_errors(found.draw, torch.tensor([[2 * 0.25 + 0.01]])).max() < 4.5


@torch.no_grad()
def test_a_mixture_has_its_weights_to_the_power():
    program = MixtureOfGaussians(1, 2)
    program.weight_logits.copy_(torch.tensor([0.8, 0.2]).log())
    program.locs.copy_(torch.tensor([[-9.0], [9.0]]))
    found = prior_samples(program, torch.zeros(1, 1), COUNT, temperature=0.5)
    second = 1 / 17  # 0.2^2 to 0.8^2
    assert abs((found.draw > 0).double().mean() - second) < 4.5 * (second * (1 - second) / COUNT) ** 0.5


GIVEN = []
"""What the decoder was given in training mode."""


class Normalized(nn.Module):
    """A decoder with batch normalization."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear, self.second = nn.BatchNorm1d(2), nn.Linear(2, 4), nn.BatchNorm1d(4)

    def forward(self, z):
        if self.norm.training:
            GIVEN.append(z.detach())
        return self.second(self.linear(self.norm(z)).tanh())[..., :3]


def normalized():
    """With running statistics of some data, and batch normalization in the encoder too."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4))
    program = VAE(latent_size=2, encoder=encoder, decoder=Normalized(), likelihood=gaussian)
    for _ in range(20):
        encoder(2 + torch.randn(50, 3))
        program.decoder(3 * torch.randn(50, 2) + 1)
    GIVEN.clear()
    return program


def gaussian(mean):
    return dist.Normal(mean, 0.1).to_event(1)


def test_recomputed_statistics_are_those_of_samples_at_the_temperature():
    program = copy.deepcopy(normalized())
    of_encoder = {name: each.clone() for name, each in program.encoder.state_dict().items()}
    before = program.decoder.norm.running_mean.clone()
    x = torch.zeros(1, 3)
    with evaluation_mode(program, x) as pair:
        recompute_statistics(program, pair, x, 0.5, seed=3)
        z = torch.stack(GIVEN)  # (batches, batch, 2)
        norm = program.decoder.norm
        assert z.shape == (BATCHES, BATCH, 2)
        torch.testing.assert_close(norm.running_mean, z.mean(1).mean(0))
        torch.testing.assert_close(norm.running_var, z.var(1).mean(0))
        deviation = (norm.running_var - 0.25).abs() / (0.25 * (2 / z[..., 0].numel()) ** 0.5)
        assert deviation.max() < 4.5 and (norm.running_mean - before).abs().min() > 0.5
        h = program.decoder.linear((z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt())
        torch.testing.assert_close(program.decoder.second.running_mean, h.tanh().mean(1).mean(0))
        assert all(torch.equal(each, of_encoder[name]) for name, each in program.encoder.state_dict().items())
        assert norm.momentum == 0.1 and not norm.training


def test_samples_see_the_recomputed_statistics_and_leave_no_trace():
    program = normalized()
    before = copy.deepcopy(program.state_dict())
    modes = [module.training for module in program.modules()]
    torch.manual_seed(9)
    state = torch.get_rng_state()
    found = prior_samples(program, torch.zeros(1, 3), 4000, temperature=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in program.modules()] == modes
    assert all(torch.equal(each, before[name]) for name, each in program.state_dict().items())
    assert not any(p.grad is not None for p in program.parameters())
    # normalized by their own statistics, means have the variance gamma^2 = 1; by those of training another one
    torch.testing.assert_close(found.mean.var(0), torch.ones(3), rtol=0.15, atol=0.0)
    stale = prior_samples(program, torch.zeros(1, 3), 4000)
    assert (stale.mean.var(0) - 1).abs().max() > 0.3


def test_samples_are_those_of_their_seed():
    program = normalized()
    draw = lambda seed: prior_samples(program, torch.zeros(1, 3), 5, seed, temperature=0.5).draw
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        prior_samples(VAE(6, 2, (5,)), torch.zeros(1, 6), 2, temperature=temperature)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: small_net((2, 3), 3), "latent 'z_1': .* and Bernoulli is neither: leave it out"),
        (lambda: HypersphericalVAE(3, 3, (5,)), "latent 'z': .* and SphericalUniform is neither"),
    ],
)
def test_a_latent_that_has_none_is_refused_by_name(make, told):
    with pytest.raises(ValueError, match=f"temperature 0.5: {told}"):
        prior_samples(make(), torch.zeros(1, 3), 2, temperature=0.5)
