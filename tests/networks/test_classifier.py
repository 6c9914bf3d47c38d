"""The image classifier: shapes, leading dimensions, that labels are learned, unknown labels, and what is refused."""

import pytest
import torch

from pplvm.data.images import digits
from pplvm.networks.classifier import CrossEntropy, ImageClassifier, accuracy
from pplvm.training.fit import fit


def classifier(**words):
    torch.manual_seed(0)
    return ImageClassifier((1, 8, 8), 10, **{"channels": (4, 8), "hidden_size": 16, **words})


def test_flattened_images_and_leading_dimensions_give_the_same_logits():
    network, x = classifier(), torch.rand(3, 2, 1, 8, 8)
    logits = network(x)
    assert logits.shape == (3, 2, 10)
    torch.testing.assert_close(network(x.flatten(2)), logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(network(x[:, :, 0]), logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.stack([network(each) for each in x]), logits, rtol=0, atol=1e-12)


def test_odd_sizes_and_colours_have_features_at_each_scale():
    network = ImageClassifier((3, 7, 5), 4, channels=(4, 6, 8), hidden_size=5)
    shapes = [tuple(found.shape) for found in network.features(torch.rand(2, 3, 7, 5))]
    assert shapes == [(2, 4, 7, 5), (2, 6, 4, 3), (2, 8, 2, 2), (2, 5, 1, 1)]
    assert network(torch.rand(2, 105)).shape == (2, 4)


def test_digits_are_learned_and_random_features_are_not_enough():
    train, valid = digits("train").conditioned("labels"), digits("valid").conditioned("labels")
    x, labels = valid.batch(torch.arange(len(valid)))
    x = x.double()
    network, loss = classifier(), None
    assert accuracy(network, x, labels) < 0.4
    loss = CrossEntropy(network.float())
    fit(loss, train, torch.optim.Adam(loss.parameters(), 1e-2), epochs=4, batch_size=50, compile="off").run()
    assert accuracy(network.double(), x, labels) > 0.85


def test_unknown_labels_do_not_count():
    loss, x = CrossEntropy(classifier()), torch.rand(4, 64)
    known = loss(x[:2], torch.tensor([3, 1]))
    torch.testing.assert_close(loss(x, torch.tensor([3, 1, -1, -1])), known)
    assert loss(x[:1], torch.tensor([-1])) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"data_shape": (8, 8), "num_classes": 10}, "data_shape must be"),
        ({"data_shape": (1, 8, 8), "num_classes": 1}, "num_classes must be"),
        ({"data_shape": (1, 8, 8), "num_classes": None}, "data that have labels"),
        ({"data_shape": (1, 8, 8), "num_classes": 3, "channels": ()}, "channels must be"),
    ],
)
def test_what_is_refused(words, told):
    with pytest.raises(ValueError, match=told):
        ImageClassifier(**words)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="build it with the data's shape"):
        classifier()(torch.zeros(2, 1, 8, 9))
