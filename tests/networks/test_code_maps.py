"""Convolutional encoder and decoder of codes: row by row, for any leading dimensions."""

import pytest
import torch

from pplvm.networks.code_maps import CodeMapDecoder, CodeMapEncoder


def test_shapes_of_odd_sizes():
    encoder, decoder = CodeMapEncoder((3, 28, 20), 5, (4, 6)), CodeMapDecoder(5, (6, 28, 20), (4, 6))
    assert encoder.grid == decoder.grid == (7, 5)
    z = encoder(torch.rand(2, 3, 3, 28, 20))
    assert z.shape == (2, 3, 35, 5) and decoder(z).shape == (2, 3, 6, 28, 20)
    torch.testing.assert_close(decoder(z)[1, 2], decoder(z[1, 2]))


def test_positions_are_rows_of_the_grid():
    """The upper right corner of the image moves the code of the first row's end most."""
    encoder = CodeMapEncoder((1, 16, 16), 2, (4, 4), num_blocks=0)
    x = torch.zeros(1, 1, 16, 16)
    changed = x.clone()
    changed[..., :4, 12:] = 1.0
    moved = (encoder(changed) - encoder(x))[0].norm(dim=-1).reshape(4, 4)
    assert moved.argmax() == 3 and moved[3, 0] == 0
    decoder = CodeMapDecoder(2, (1, 16, 16), (4, 4), num_blocks=0)
    e = torch.zeros(16, 2)
    e[3] = 1.0
    assert (decoder(e) - decoder(torch.zeros(16, 2)))[0].abs().argmax() % 16 >= 8


def test_bad_input():
    with pytest.raises(ValueError, match="CodeMapEncoder: channels must be"):
        CodeMapEncoder((1, 8, 8), 2, ())
    with pytest.raises(ValueError, match="CodeMapDecoder: an image of 8x8 can be halved 3 times"):
        CodeMapDecoder(2, (1, 8, 8), (2,) * 4)
