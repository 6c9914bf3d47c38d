"""Convolutional encoder and decoder: shapes, particles, gradients, precision, state, tiers, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from pplvm.graphs.compiled import compiled
from pplvm.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, scale_sizes

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 7, 5)]


def encoder(shape=(1, 8, 8), **words):
    return ConvolutionalEncoder(shape, 6, channels=(4, 6), **words)


def decoder(shape=(1, 8, 8), **words):
    return ConvolutionalDecoder(3, shape, channels=(4, 6), **words)


NETWORKS = {
    "encoder": (encoder, (1, 8, 8)),
    "encoder, weight norm": (lambda: encoder(weight_norm=True), (1, 8, 8)),
    "encoder, two blocks": (lambda: encoder(num_blocks=2, squeeze_excitation=False), (1, 8, 8)),
    "decoder": (decoder, (3,)),
    "decoder, weight norm": (lambda: decoder(weight_norm=True), (3,)),
    "decoder, no blocks": (lambda: decoder(num_blocks=0), (3,)),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    make, shape = NETWORKS[request.param]
    return make, shape


@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_fit(shape):
    assert encoder(shape)(torch.randn(2, *shape)).shape == (2, 6)
    assert decoder(shape)(torch.randn(2, 3)).shape == (2, *shape)


@pytest.mark.parametrize("left", [(), (4,), (3, 4), (2, 3, 4)])
def test_every_row_is_what_it_is_alone(network, left):
    make, shape = network
    net, x = make(), torch.randn(*left, *shape)
    found = net(x)
    rows = torch.stack([net(row) for row in x.reshape(-1, *shape)])
    assert found.shape == (*left, *rows.shape[1:])
    torch.testing.assert_close(found.reshape(rows.shape), rows)


def test_every_parameter_gets_a_gradient(network):
    make, shape = network
    net = make()
    net(torch.randn(2, 3, *shape)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_decoder_starts_at_its_bias():
    net = decoder()
    with torch.no_grad():
        net.bias.copy_(torch.arange(64.0).reshape(1, 8, 8))
    assert (net(torch.randn(50, 3)).mean(0) - net.bias).abs().max() < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_keeps_its_precision(network, dtype):
    make, shape = network
    assert make().to(dtype)(torch.randn(2, *shape, dtype=dtype)).dtype is dtype


def test_a_state_dict_and_a_copy_are_all_that_it_is(network, tmp_path):
    make, shape = network
    net, other, x = make(), make(), torch.randn(2, *shape)
    torch.save(net.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(net(x), other(x)) and torch.equal(net(x), copy.deepcopy(net)(x))


class Squares(nn.Module):
    """A loss without a program."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).square().mean()


def held_against_eager(net, shape, tier):
    x, found = torch.randn(3, 2, *shape), []
    for each in ("off", tier):
        net.zero_grad()
        step = compiled(Squares(net), each)
        value = step.backward(x)
        assert step.tier_now == each
        found.append((value, [p.grad.clone() for p in net.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_eager_value_and_gradient(name):
    make, shape = NETWORKS[name]
    held_against_eager(make(), shape, "graph")


OF_ONE_SCALE = {  # minutes of compilation are saved by the second
    "encoder, weight norm": (lambda: ConvolutionalEncoder((1, 4, 4), 3, channels=(4,), weight_norm=True), (1, 4, 4)),
    "decoder": (lambda: ConvolutionalDecoder(3, (1, 4, 4), channels=(4,)), (3,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ONE_SCALE)
def test_inductor_gives_the_eager_value_and_gradient(name):
    make, shape = OF_ONE_SCALE[name]
    held_against_eager(make(), shape, "inductor")


def test_each_image_may_be_mapped_by_vmap(network):
    make, shape = network
    net, x = make(), torch.randn(4, *shape)
    torch.testing.assert_close(torch.func.vmap(net)(x), net(x))


def test_scales_halve_and_round_up():
    assert scale_sizes((28, 20), 3) == [(28, 20), (14, 10), (7, 5), (4, 3)]


@pytest.mark.parametrize(
    "make", [ConvolutionalEncoder, lambda shape, size, c, n=1: ConvolutionalDecoder(size, shape, c, n)]
)
@pytest.mark.parametrize(
    "shape, channels, blocks, told",
    [
        ((8, 8), (4,), 1, r"is \(C, H, W\), each at least 1, got \(8, 8\)"),
        ((1, 8, 0), (4,), 1, r"is \(C, H, W\)"),
        ((1, 8, 8), (), 1, "one number of at least 1 for each scale"),
        ((1, 8, 8), (4, 0), 1, "one number of at least 1 for each scale"),
        ((1, 8, 8), (4,) * 4, 1, "8x8 can be halved 3 times, and channels .* ask for 4: give at most 3"),
        ((1, 8, 8), (4,), -1, "num_blocks must be an integer of at least 0, got -1"),
    ],
)
def test_what_makes_no_network_is_refused_in_words(make, shape, channels, blocks, told):
    with pytest.raises(ValueError, match=told):
        make(shape, 3, channels, blocks)
