"""Likelihoods of images after a convolutional decoder."""

import pytest
import torch

from pplvm.programs.image_likelihoods import DiscretizedLogisticImages
from pplvm.programs.likelihoods import DiscretizedLogisticOutputs


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(channels):
    likelihood = DiscretizedLogisticImages(256, channels, num_components=4)
    fn = likelihood(torch.randn(2, 5, likelihood.output_channels, 6, 7))
    assert fn.batch_shape == (2, 5) and fn.event_shape == (channels, 6, 7)
    draws = fn.sample()
    assert fn.support.check(draws).all() and fn.log_prob(draws).shape == (2, 5)


def test_grey_images_have_the_mixtures_of_flattened_data():
    outputs, x = torch.randn(2, 9, 4, 5), torch.rand(2, 1, 4, 5).mul(16).round() / 16
    of_image = DiscretizedLogisticImages(17, 1, num_components=3)(outputs)
    flattened = outputs.unflatten(1, (3, 3)).flatten(3).transpose(-1, -2).flatten(1)
    of_data = DiscretizedLogisticOutputs(20, 17)(flattened)
    torch.testing.assert_close(of_image.log_prob(x), of_data.log_prob(x.flatten(1)))


def test_colours_of_which_nothing_is_coupled_are_grey_mixtures():
    """With one component and coefficients at zero, each channel is on its own."""
    likelihood = DiscretizedLogisticImages(17, 3, num_components=1)
    outputs, x = torch.randn(2, 10, 4, 5), torch.rand(2, 3, 4, 5).mul(16).round() / 16
    outputs[:, 7:] = 0  # (logits, 3 loc, 3 log scale, 3 coefficients)
    alone = DiscretizedLogisticImages(17, 1, num_components=1)
    each = (alone(outputs[:, [0, 1 + c, 4 + c]]).log_prob(x[:, c : c + 1]) for c in range(3))
    torch.testing.assert_close(likelihood(outputs).log_prob(x), sum(each))


def test_what_is_refused():
    with pytest.raises(ValueError, match="channels must be 1 .* or 3 .*, got 2: flatten"):
        DiscretizedLogisticImages(256, 2)
    with pytest.raises(ValueError, match="DiscretizedLogisticImages: levels must be"):
        DiscretizedLogisticImages(1)
