"""A wrapped layer against the same layer called on one batch at a time."""

import pytest
import torch
from torch import nn

from pplvm.networks.leading_dims import LeadingDims

LEFT = [(), (5,), (3, 5), (2, 1, 1, 5)]  # nothing, a batch, particles, states in a dimension of their own


LAYERS = {
    "convolution": (lambda: nn.Conv2d(2, 3, 3), (2, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose1d(2, 3, 4), (2, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3)),
    "pooling": (lambda: nn.MaxPool2d(2), (1, 4, 4)),
    "transformer": (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), (3, 4)),
}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("name", LAYERS)
def test_every_row_is_what_it_is_alone(name, left):
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(*left, *shape)
    found = LeadingDims(layer, len(shape))(x)
    rows = [layer(row.unsqueeze(0))[0] for row in x.reshape(-1, *shape)]
    assert found.shape == (*left, *rows[0].shape)
    torch.testing.assert_close(found.reshape(-1, *rows[0].shape), torch.stack(rows))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_layer_gives_its_states_too(kind):
    layer, x = kind(4, 6, num_layers=2, batch_first=True), torch.randn(3, 5, 7, 4)
    output, states = LeadingDims(layer, 2)(x)
    plain, last = layer(x.flatten(0, 1))
    torch.testing.assert_close(output, plain.reshape(3, 5, 7, 6))
    first = states if kind is nn.GRU else states[0]
    torch.testing.assert_close(first, (last if kind is nn.GRU else last[0]).reshape(2, 3, 5, 6))


def test_leading_dimensions_of_several_inputs_are_broadcast():
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    z, x = torch.randn(3, 1, 2, 4), torch.randn(5, 6, 4)
    output, weights = LeadingDims(layer, 2)(z, x, x)
    assert output.shape == (3, 5, 2, 4) and weights.shape == (3, 5, 2, 6)
    torch.testing.assert_close(output[1, 4:5], layer(z[1], x[4:], x[4:])[0])


def test_batch_norm_takes_all_rows_as_one_batch():
    layer, x = nn.BatchNorm1d(4), torch.randn(3, 5, 4)
    torch.testing.assert_close(LeadingDims(layer, 1)(x), nn.BatchNorm1d(4)(x.flatten(0, 1)).reshape(3, 5, 4))
    assert layer.num_batches_tracked == 1


def test_what_cannot_be_is_refused_in_words():
    with pytest.raises(ValueError, match="GRU with batch_first=True"):
        LeadingDims(nn.GRU(4, 6), 2)
    with pytest.raises(ValueError, match="integer of at least 0, got 1.5"):
        LeadingDims(nn.Conv2d(1, 1, 1), 1.5)
    with pytest.raises(ValueError, match=r"shape \(4, 4\) has fewer than 3"):
        LeadingDims(nn.Conv2d(1, 1, 1), 3)(torch.zeros(4, 4))
