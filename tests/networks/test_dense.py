"""The dense network against matrix products written out."""

import pytest
import torch
from torch import nn

from pplvm.networks.dense import MLP


def test_nothing_hidden_is_one_linear_map():
    net = MLP(3, 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(net(x), x @ net.last.weight.T + net.last.bias)
    assert len(list(net.parameters())) == 2


def test_hidden_layers_are_linear_and_activation_in_turn():
    net = MLP(3, 2, hidden_sizes=(4, 6), activation=nn.Softplus)
    first, second, last = (m for m in net.layers if isinstance(m, nn.Linear))
    x = torch.randn(5, 3)
    h = nn.functional.softplus(x @ first.weight.T + first.bias)
    h = nn.functional.softplus(h @ second.weight.T + second.bias)
    torch.testing.assert_close(net(x), h @ last.weight.T + last.bias)
    assert net.last is last
    assert [m.out_features for m in (first, second, last)] == [4, 6, 2]


@pytest.mark.parametrize("leading", [(), (4,), (7, 4), (2, 7, 4)])
def test_all_but_the_last_dimension_are_kept(leading):
    assert MLP(3, 2, (5,))(torch.zeros(*leading, 3)).shape == (*leading, 2)
