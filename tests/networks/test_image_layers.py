"""Layers of images: every image is what it is alone, whatever dimensions stand left of it."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, group_norm, silu

from pplvm.networks.image_layers import (
    Downsampling,
    ResidualConvolution,
    SqueezeExcitation,
    Upsampling,
    convolution,
)

C, H, W = 4, 7, 5

LAYERS = {
    "residual": lambda: ResidualConvolution(C),
    "wide inside": lambda: ResidualConvolution(C, 12, kernel_size=5, scale=0.5),
    "plain": lambda: ResidualConvolution(C, group_norm=False, squeeze_excitation=False),
    "weight norm": lambda: ResidualConvolution(C, weight_norm=True),
    "squeeze": lambda: SqueezeExcitation(C),
    "down": lambda: Downsampling(C, 6),
    "up": lambda: Upsampling(C, 6, (14, 9)),
    "up, weight norm": lambda: Upsampling(C, 6, (14, 9), weight_norm=True),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]()


@pytest.mark.parametrize("left", [(), (5,), (3, 5), (2, 1, 5)])
def test_every_image_is_what_it_is_alone(layer, left):
    x = torch.randn(*left, C, H, W)
    found = layer(x)
    rows = torch.stack([layer(row) for row in x.reshape(-1, C, H, W)])
    assert found.shape == (*left, *rows.shape[1:])
    torch.testing.assert_close(found.reshape(rows.shape), rows)


def test_every_parameter_gets_a_gradient(layer):
    layer(torch.randn(3, 2, C, H, W)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_the_state_is_all_that_it_is(layer, request):
    name = request.node.callspec.params["layer"]
    other, x = LAYERS[name](), torch.randn(2, C, H, W)
    assert not torch.equal(layer(x), other(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), other(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_keeps_its_precision(layer, dtype):
    assert layer.to(dtype)(torch.randn(2, C, H, W, dtype=dtype)).dtype is dtype


def test_a_residual_block_is_its_equation():
    block, x = ResidualConvolution(C), torch.randn(3, C, H, W)
    norm, _, first, other, _, second, squeeze = block.layers
    h = conv2d(silu(group_norm(x, 2, norm.weight, norm.bias)), first.weight, first.bias, padding=1)
    h = conv2d(silu(group_norm(h, 2, other.weight, other.bias)), second.weight, second.bias, padding=1)
    wide, _, narrow, _ = squeeze.gates
    gate = torch.sigmoid(silu(h.mean((2, 3)) @ wide.weight.T + wide.bias) @ narrow.weight.T + narrow.bias)
    torch.testing.assert_close(block(x), x + h * gate[:, :, None, None])


def test_groups_hold_two_channels_at_least():
    groups = lambda channels: ResidualConvolution(channels).layers[0].num_groups
    assert [groups(c) for c in (1, 2, 3, 4, 6, 16, 20, 32, 64)] == [1, 1, 1, 2, 3, 8, 5, 8, 8]


def test_down_and_up_meet_in_the_middle():
    for size in (8, 28, 32, 7, 5):
        small = Downsampling(1, 2)(torch.zeros(1, size, size))
        assert small.shape == (2, (size + 1) // 2, (size + 1) // 2)
        assert Upsampling(2, 1, (size, size))(small).shape == (1, size, size)


def test_upsampling_repeats_the_nearest_pixel():
    layer, x = Upsampling(1, 1, (4, 4)), torch.randn(1, 2, 2)
    with torch.no_grad():
        layer.layer.weight.zero_()
        layer.layer.weight[..., 1, 1] = 1.0
        layer.layer.bias.zero_()
    torch.testing.assert_close(layer(x), x.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_weight_normalization_starts_at_the_weights_and_splits_length_and_direction():
    torch.manual_seed(0)
    plain = convolution(2, 3)
    torch.manual_seed(0)
    normalized = convolution(2, 3, weight_norm=True)
    torch.testing.assert_close(normalized.weight, plain.weight)
    length = normalized.parametrizations.weight.original0
    assert length.shape == (3, 1, 1, 1)
    with torch.no_grad():
        length.mul_(2.0)
    torch.testing.assert_close(normalized.weight, 2 * plain.weight)


def test_what_cannot_be_is_refused_in_words():
    with pytest.raises(ValueError, match=r"images are \(..., C, H, W\), got shape \(4, 7\)"):
        SqueezeExcitation(4)(torch.zeros(4, 7))
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        ResidualConvolution(4, kernel_size=4)
    with pytest.raises(ValueError, match="channels must be an integer of at least 1, got 0"):
        ResidualConvolution(4, 0)
    with pytest.raises(ValueError, match="in_channels must be an integer of at least 1, got 2.5"):
        Downsampling(2.5, 4)
    assert isinstance(convolution(2, 3, weight_norm=True), nn.Conv2d)
