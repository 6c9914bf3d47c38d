"""The soft clamp: the identity near 0, bounded and with a finite slope everywhere."""

import pytest
import torch

from pplvm.networks.soft_clamp import soft_clamp


def test_slope_at_zero_is_one():
    x = torch.zeros(3, requires_grad=True)
    soft_clamp(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(3))


@pytest.mark.parametrize("size", [1e4, -1e4, 0.0, 3.0])
def test_what_a_scale_is_made_of_stays_finite_in_float32(size):
    """An exponential of twice the log scale, as in a KL, with its gradient; unclamped it overflows."""
    x = torch.full((3,), size, dtype=torch.float32, requires_grad=True)
    value = torch.expm1(2 * soft_clamp(x)) - 2 * soft_clamp(x)
    value.sum().backward()
    assert value.isfinite().all() and x.grad.isfinite().all()
    assert soft_clamp(x).abs().max() <= 5
    assert torch.expm1(2 * torch.full((3,), 1e4, dtype=torch.float32)).isinf().all()


def test_another_bound():
    torch.testing.assert_close(soft_clamp(torch.tensor(1e6), 2.0), torch.tensor(2.0))
