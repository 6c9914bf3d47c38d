"""Dense encoders and decoders: any shape of data, any leading dimensions of latents, and the mean where they start."""

import torch

from pplvm.programs.dense_networks import dense_decoder, dense_encoder
from pplvm.programs.likelihoods import likelihood_named


def test_images_are_flattened():
    encoder, x = dense_encoder(6, 4, (5,), "tanh"), torch.randn(3, 6)
    assert encoder(x).shape == (3, 4) and torch.equal(encoder(x.reshape(3, 1, 2, 3)), encoder(x))


def test_a_decoder_starts_at_the_mean_and_has_the_hidden_sizes_in_reverse():
    mean = torch.linspace(0.1, 0.9, 6)
    decoder = dense_decoder(2, likelihood_named("bernoulli", 6), (5, 3), "elu", mean)
    torch.testing.assert_close(decoder.last.bias.sigmoid(), mean)
    assert decoder.last.in_features == 5 and decoder(torch.randn(4, 3, 2)).shape == (4, 3, 6)
    assert dense_decoder(2, likelihood_named("bernoulli", 6), (), "elu", None)(torch.randn(3, 2)).shape == (3, 6)
