"""Masked networks: what an output depends on, to the last bit."""

import pytest
import torch
from torch import nn
from torch.func import jacrev

from pplvm.networks.masked import MADE, MaskedLinear

D = 5
ORDERS = {"natural": (0, 1, 2, 3, 4), "reversed": (4, 3, 2, 1, 0), "mixed": (2, 0, 4, 1, 3)}


def outside(order):
    """(D, D): whether output i may not depend on input j."""
    position = torch.tensor([order.index(i) for i in range(len(order))])
    return position[None, :] >= position[:, None]


def jacobian(network, x, *context):
    return jacrev(lambda x: network(x, *context))(x)  # (outputs, D, D)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("hidden", [(1,), (3,), (D,), (17,), (7, 2, 9)])
@pytest.mark.parametrize("context_size", [0, 2])
def test_an_output_depends_on_all_inputs_before_it_and_on_no_other(order, hidden, context_size):
    network = MADE(D, hidden, num_outputs=3, order=order, context_size=context_size)
    context = [network.project(torch.randn(context_size))] if context_size else []
    slope = jacobian(network, torch.randn(D), *context)
    assert (slope[:, outside(order)] == 0).all()
    assert (slope[:, ~outside(order)] != 0).all()


def test_a_connection_too_many_is_seen():
    network = MADE(D, (7,))
    network.last.mask = network.last.mask.clone()
    network.last.mask[0] = True
    assert (jacobian(network, torch.randn(D))[:, outside(network.order)] != 0).any()


@pytest.mark.parametrize("hidden", [(1,), (4,), (3, 6)])
def test_the_context_reaches_every_output(hidden):
    network = MADE(D, hidden, context_size=3)
    slope = jacrev(lambda h: network(torch.zeros(D), network.project(h)))(torch.randn(3))
    assert (slope.abs().sum(-1) > 0).all()


def test_the_context_is_projected_once_a_datum():
    network, rows = MADE(D, (7,), context_size=3), []
    network.projection.register_forward_hook(lambda module, given, found: rows.append(given[0].shape))
    context = network.project(torch.randn(4, 3))
    found = network(x := torch.randn(6, 2, 4, D), context)
    assert rows == [(4, 3)] and found.shape == (6, 2, 4, 2, D)
    torch.testing.assert_close(found[3, 1, 2], network(x[3, 1, 2], context[2]))


def test_the_start_of_zero_is_one_whatever_the_input():
    network = MADE(D, (7,), context_size=3, zero_init=True)
    assert (network(torch.randn(4, D), network.project(torch.randn(4, 3))) == 0).all()
    network(torch.randn(4, D), network.project(torch.randn(4, 3))).sum().backward()
    assert network.last.weight.grad.abs().sum() > 0  # and it can leave it


def test_one_input_has_no_other_before_it():
    network = MADE(1, (4,))
    assert torch.equal(network(torch.zeros(1)), network(torch.ones(1)))


def test_every_hidden_unit_may_see_something():
    """Without a context, a unit that sees no input would be lost."""
    first = MADE(D, (3,)).first.mask
    assert first.any(1).all()
    assert not MADE(D, (6,), context_size=1).first.mask.any(1).all()


def test_a_masked_layer_has_no_slope_where_it_is_masked():
    mask = torch.tensor([[True, False], [True, True]])
    layer = MaskedLinear(mask)
    x = torch.randn(3, 2)
    torch.testing.assert_close(layer(x), x @ (layer.weight * mask).T + layer.bias)
    layer(x).sum().backward()
    assert (layer.weight.grad[~mask] == 0).all() and (layer.weight.grad[mask] != 0).all()
    assert MaskedLinear(mask, bias=False).bias is None


def test_masks_come_with_the_constructor_and_not_with_the_state():
    network = MADE(D, (7,), order=ORDERS["mixed"], context_size=2, activation=nn.Tanh)
    assert not [name for name in network.state_dict() if "mask" in name]
    assert network.float()(torch.randn(D).float(), torch.zeros(7).float()).dtype is torch.float32


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"size": 0}, "sizes must be at least 1"),
        ({"hidden_sizes": ()}, "one hidden layer or more"),
        ({"hidden_sizes": (3, 0)}, r"at least 1.*hidden_sizes \(3, 0\)"),
        ({"num_outputs": 0}, "sizes must be at least 1"),
        ({"context_size": -1}, "sizes must be at least 1"),
        ({"order": (0, 1, 1, 2, 3)}, r"order must be a permutation of 0 \.\. 4"),
        ({"order": (0, 1)}, r"order must be a permutation of 0 \.\. 4"),
    ],
)
def test_bad_input(wrong, said):
    with pytest.raises(ValueError, match=said):
        MADE(**{"size": D, **wrong})
    with pytest.raises(ValueError, match="no context to project"):
        MADE(D).project(torch.zeros(3))
    with pytest.raises(ValueError, match="mask must be a matrix"):
        MaskedLinear(torch.ones(3))
