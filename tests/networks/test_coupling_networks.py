"""Networks of couplings: shapes, leading dimensions, context, and zeros at the start."""

import pytest
import torch

from pplvm.networks.coupling_networks import ConvolutionalCouplingNetwork, DenseCouplingNetwork

NETWORKS = {
    "convolutional": lambda c: ConvolutionalCouplingNetwork((2, 4, 4), 6, channels=5, context_channels=c and 3),
    "dense": lambda c: DenseCouplingNetwork(32, 96, hidden_size=7, context_size=c and 48),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_leading_dimensions_and_a_context_of_fewer(name):
    network = NETWORKS[name](True)
    assert torch.equal(network(torch.randn(4, 32), torch.randn(4, 48)), torch.zeros(4, 96))
    torch.nn.init.normal_(network.last.weight)
    part, context = torch.randn(3, 4, 32), torch.randn(4, 48)
    found = network(part, context)
    assert found.shape == (3, 4, 96)
    torch.testing.assert_close(found[1], network(part[1], context))
    assert not torch.allclose(found[1], network(part[1], context.flip(0)))


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_context(name):
    network = NETWORKS[name](0)
    torch.nn.init.normal_(network.last.weight)
    part = torch.randn(3, 4, 32)
    torch.testing.assert_close(network(part)[2], network(part[2]))


def test_numbers_leave_by_kind_and_then_by_place():
    """A channel of the last layer is one number of all pixels: (..., numbers, pixels) flattened."""
    network = ConvolutionalCouplingNetwork((1, 2, 2), 3)
    with torch.no_grad():
        network.last.bias.copy_(torch.arange(3.0))
    assert torch.equal(network(torch.zeros(4)).reshape(3, 4), torch.arange(3.0)[:, None].expand(3, 4))
