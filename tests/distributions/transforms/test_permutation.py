"""A permutation of coordinates and its inverse."""

import torch

from pplvm.distributions.transforms.permutation import Permutation


def test_it_reorders_and_puts_back():
    order = torch.tensor([2, 0, 3, 1])
    permutation, x = Permutation(order), torch.randn(3, 4)
    assert torch.equal(permutation(x), x[:, order])
    assert torch.equal(permutation.inv(x[:, order]), x)
    assert torch.equal(Permutation(order, order.argsort()).inv(x[:, order]), x)
    assert torch.equal(permutation.log_abs_det_jacobian(x, permutation(x)), torch.zeros(3))
