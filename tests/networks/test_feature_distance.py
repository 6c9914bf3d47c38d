"""The distance by features: zero of equal images, a frozen network, gradients, and what training on labels adds."""

import pytest
import torch

from pplvm.data.images import digits
from pplvm.networks.classifier import CrossEntropy, ImageClassifier
from pplvm.networks.feature_distance import FeatureDistance
from pplvm.training.fit import fit


def classifier():
    torch.manual_seed(0)
    return ImageClassifier((1, 8, 8), 10, channels=(4, 8), hidden_size=16)


def test_equal_images_are_at_distance_zero_and_particles_broadcast():
    distance, x, y = FeatureDistance(classifier().features), torch.rand(5, 64), torch.rand(3, 5, 64)
    assert torch.equal(distance(x, x), torch.zeros(5))
    found = distance(x, y)
    assert found.shape == (3, 5) and (found > 0).all()
    torch.testing.assert_close(found[1], distance(y[1], x))


def test_the_network_is_a_frozen_copy_and_the_gradient_reaches_the_images():
    network = classifier()
    distance, x = FeatureDistance(network.features), torch.rand(5, 64)
    y = torch.rand(5, 64, requires_grad=True)
    before = distance(x, y).sum()
    before.backward()
    assert y.grad.abs().max() > 0 and all(not p.requires_grad for p in distance.parameters())
    assert not distance.train().network.training
    with torch.no_grad():
        network.last.weight.zero_(), network.hidden[0].weight.zero_()
    assert distance(x, y).sum() == before


def test_features_that_are_all_zero_have_a_finite_slope():
    network = classifier()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    y = torch.rand(2, 64, requires_grad=True)
    FeatureDistance(network.features)(torch.rand(2, 64), y).sum().backward()
    assert y.grad.isfinite().all()


def test_trained_features_tell_classes_apart_better_than_random_ones():
    data, network = digits("train").conditioned("labels"), classifier()
    x, labels = (part[:100] for part in data.batch(torch.arange(100)))

    def ratio(network):
        apart = FeatureDistance(network.features)(x[:, None].flatten(2), x.flatten(1))
        same, others = labels[:, None] == labels, ~torch.eye(100, dtype=torch.bool)
        return float(apart[~same].mean() / apart[same & others].mean())

    x = x.double()
    random = ratio(network)
    x, loss = x.float(), CrossEntropy(network.float())
    fit(loss, data, torch.optim.Adam(loss.parameters(), 1e-2), epochs=2, batch_size=50, compile="off").run()
    assert ratio(network) > 1.1 * random


def test_bad_input():
    with pytest.raises(TypeError, match="features must be a method of an nn.Module"):
        FeatureDistance(lambda x: [x])
