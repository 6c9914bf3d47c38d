"""The residual perceptron against its equation written out."""

import math

import pytest
import torch
from torch.nn.functional import silu

from pplvm.networks.residual import ResidualMLP


def test_it_is_its_equation():
    net, x = ResidualMLP(3, 2, hidden_size=5, num_blocks=2), torch.randn(7, 3)
    h = net.first(x)
    for block in net.blocks:
        _, first, _, second = block.layers
        h = h + silu(silu(h) @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(net(x), silu(h) @ net.last.weight.T + net.last.bias)


@pytest.mark.parametrize("leading", [(), (4,), (3, 4), (2, 3, 4)])
def test_all_but_the_last_dimension_are_kept(leading):
    net, x = ResidualMLP(3, 2, hidden_size=5), torch.randn(*leading, 3)
    assert net(x).shape == (*leading, 2)
    rows = torch.stack([net(row) for row in x.reshape(-1, 3)])
    torch.testing.assert_close(net(x).reshape(-1, 2), rows)


@pytest.mark.parametrize("num_blocks", [1, 4, 16])
def test_blocks_start_at_a_scale_that_keeps_their_sum(num_blocks):
    last = [block.layers[-1] for block in ResidualMLP(3, 2, hidden_size=100, num_blocks=num_blocks).blocks]
    usual = 1 / math.sqrt(3 * 100)  # the standard deviation of torch's own weights
    assert torch.stack([layer.weight for layer in last]).std().item() == pytest.approx(
        usual / math.sqrt(num_blocks), 0.02
    )
    assert not any(layer.bias.any() for layer in last)


def test_every_parameter_gets_a_gradient():
    net = ResidualMLP(3, 2, hidden_size=5)
    net(torch.randn(4, 3)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("words", [{"in_size": 0}, {"hidden_size": 2.5}, {"num_blocks": 0}, {"out_size": True}])
def test_sizes_below_one_are_refused_in_words(words):
    with pytest.raises(ValueError, match=f"{next(iter(words))} must be an integer of at least 1"):
        ResidualMLP(**{"in_size": 3, "out_size": 2} | words)
