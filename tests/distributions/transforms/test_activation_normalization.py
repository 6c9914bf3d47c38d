"""Activation normalization of one location for all data, and of one for each datum."""

import torch

from pplvm.distributions.transforms.activation_normalization import ActivationNormalization


def test_a_location_for_each_datum():
    loc, log_scale, x = torch.randn(4, 3), torch.randn(4, 3), torch.randn(2, 4, 3)
    transform = ActivationNormalization(loc, log_scale)
    y = transform(x)
    torch.testing.assert_close(y, (x - loc) / log_scale.exp())
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), -log_scale.sum(-1).expand(2, 4))
