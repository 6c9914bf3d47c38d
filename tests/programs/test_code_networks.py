"""Encoders and decoders of codes: their shapes, the start at the mean of the data, leading dimensions."""

import pytest
import torch

from pplvm.programs.code_networks import convolutional_code_networks, dense_code_networks
from pplvm.programs.likelihoods import likelihood_named

MEAN = torch.linspace(0.1, 0.9, 64)


def both():
    dense = dense_code_networks(likelihood_named("bernoulli", 64), (2, 2), 3, (7,), data_mean=MEAN)
    of_images = convolutional_code_networks(
        likelihood_named("bernoulli", 64), (1, 8, 8), 3, channels=(4, 6), data_mean=MEAN
    )
    return dense, of_images


@pytest.mark.parametrize("number", [0, 1])
def test_vectors_of_the_grid_and_any_number_of_leading_dimensions(number):
    networks = both()[number]
    assert networks.grid == (2, 2)
    assert networks.encoder(torch.rand(5, 1, 8, 8)).shape == (5, 4, 3)
    e = torch.randn(2, 6, 5, 4, 3)
    found = networks.likelihood(networks.decoder(e)).base_dist.probs
    assert found.shape == (2, 6, 5, 64)
    alone = networks.likelihood(networks.decoder(e[1, 2, 3:4])).base_dist.probs
    torch.testing.assert_close(found[1, 2, 3], alone[0])


def test_the_decoder_starts_at_the_mean_of_the_data():
    for networks in both():
        found = networks.likelihood(networks.decoder(torch.zeros(4, 3))).base_dist.probs
        assert (found - MEAN).abs().mean() < 0.2 < (found - MEAN.flip(0)).abs().mean()


def test_a_position_of_a_map_sees_the_pixels_around_it_alone():
    networks = convolutional_code_networks(
        likelihood_named("bernoulli", 1024), (1, 32, 32), 2, channels=(4, 4), grid=(8, 8)
    )
    x = torch.rand(1, 1, 32, 32, requires_grad=True)  # but for what normalizes groups of channels
    (slope,) = torch.autograd.grad(networks.encoder(x)[0, 0].sum(), x)
    assert slope[0, 0, :4, :4].abs().sum() > 10 * slope[0, 0, 28:, 28:].abs().sum()
