"""The ladder's posterior: the product of the prior and a normal of the features, wherever the prior is."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from pplvm.distributions.residual_normal import ResidualNormal
from pplvm.networks.ladder import Ladder

Z, H = 3, 5


def moved(clamp=5.0):
    torch.manual_seed(0)
    group = Ladder(nn.Linear, Z, H, nn.Identity(), clamp)
    with torch.no_grad():
        for parameter in group.parameters():
            parameter.normal_(std=0.7)
    return group


def test_the_posterior_is_prior_times_a_normal_that_the_features_alone_give():
    group, h, e = moved(), torch.randn(7, 4, H), torch.randn(4, H)
    loc, log_scale = group.prior(h)
    q = ResidualNormal(loc, log_scale.exp(), *group.residuals(h, e))
    z = torch.linspace(-3, 3, 50).reshape(-1, 1, 1, 1)
    told = q.log_prob(z) - Normal(loc, log_scale.exp()).log_prob(z)  # log N(z; m_e, s_e^2) and a constant
    slope = told.diff(n=2, dim=0)
    assert torch.allclose(slope, slope[:1, :1].expand_as(slope)), "of one precision, for any prior"
    precision = -slope[0, 0] / (z[1] - z[0]).flatten() ** 2
    centre = (told[1:] - told[:-1]).squeeze() / (z[1] - z[0]).flatten() / precision + ((z[1:] + z[:-1]) / 2)
    assert torch.allclose(centre, centre[:1, :1].expand_as(centre), atol=1e-6), "and of one mean"
    assert (precision > 0).all() and precision.std() > 0.01 and centre[0, 0].std() > 0.01


def test_data_that_tell_nothing_leave_the_prior_and_data_that_tell_all_replace_it():
    group, h, e = moved(clamp=None), torch.randn(4, H), torch.randn(4, H)
    loc, log_scale = group.prior(h)
    with torch.no_grad():
        group.head.weight.zero_()
        for log_scale_e, wanted in ((20.0, (loc, log_scale)), (-20.0, (torch.full_like(loc, 2.0), None))):
            group.head.bias.copy_(torch.tensor([2.0] * Z + [log_scale_e] * Z))
            q = ResidualNormal(loc, log_scale.exp(), *group.residuals(h, e))
            assert torch.allclose(q.loc, wanted[0], atol=1e-6)
            expected = torch.full_like(loc, log_scale_e) if wanted[1] is None else wanted[1]
            assert torch.allclose(q.scale.log(), expected, atol=1e-6)


def test_a_clamp_that_is_not_positive_is_told():
    with pytest.raises(ValueError, match="clamp must be a positive"):
        Ladder(nn.Linear, Z, H, nn.Identity(), clamp=0.0)
