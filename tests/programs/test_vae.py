"""The VAE's joint density written out, under both likelihoods."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from pplvm.particles.draw import draw_particles
from pplvm.programs.vae import VAE


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
    with pytest.raises(ValueError, match="likelihood must be 'bernoulli' or 'gaussian', got 'poisson'"):
        VAE(4, likelihood="poisson")


@pytest.mark.parametrize(("name", "activation"), [("softplus", torch.nn.functional.softplus), ("tanh", torch.tanh)])
def test_the_activation_by_hand(name, activation):
    vae, x = VAE(4, 2, (3,), activation=name), torch.randn(5, 4)
    for network, value in ((vae.encoder, x), (vae.decoder, x[:, :2])):
        first, last = network.layers[0], network.last
        expected = activation(value @ first.weight.T + first.bias) @ last.weight.T + last.bias
        torch.testing.assert_close(network(value), expected)


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="activation must be 'softplus' or 'tanh', got 'relu'"):
        VAE(4, activation="relu")
