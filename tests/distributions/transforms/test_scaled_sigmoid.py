"""The sigmoid onto an interval: its ends, and its log-determinant where torch's loses digits."""

import pytest
import torch

from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid


def test_values_stay_inside_in_either_dtype():
    for dtype in (torch.float32, torch.float64):
        y = ScaledSigmoid(256.0)(torch.tensor([-1e4, -90.0, 0.0, 40.0, 1e4], dtype=dtype))
        assert (y > 0).all() and (y < 256).all() and y.floor().max() == 255
        assert ScaledSigmoid(256.0).inv(y).isfinite().all()


def test_the_inverse_and_the_density_near_the_upper_end():
    """Of float32, against float64: 255 + u has 1 - y / 256 with few digits, and its complement has all."""
    y = torch.tensor([[255.75, 255 + 1 - 2.0**-16, 2.0**-20]])
    narrow = ScaledSigmoid(256.0)
    x = narrow.inv(y.float())
    wide = ScaledSigmoid(256.0)
    exact = wide.inv(y)
    torch.testing.assert_close(x.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        narrow.log_abs_det_jacobian(x, y.float()).double(), wide.log_abs_det_jacobian(exact, y), rtol=1e-6, atol=0
    )


def test_its_codomain():
    codomain = ScaledSigmoid(3.0).codomain
    assert (
        codomain.event_dim == 1 and codomain.check(torch.tensor([0.1, 2.9])) and not codomain.check(torch.tensor([3.1]))
    )


def test_an_interval_without_length_is_refused():
    with pytest.raises(ValueError, match="ScaledSigmoid: high must be positive, got 0"):
        ScaledSigmoid(0)
