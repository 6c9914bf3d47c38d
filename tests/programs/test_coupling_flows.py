"""The RealNVP prior, and the modules of flows."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from pplvm.programs.coupling_flows import ActivationNormalizer, CouplingPrior, Reordering


@pytest.mark.parametrize("size", [2, 5, 8])
def test_it_starts_as_a_standard_normal_exactly(size):
    z = torch.randn(7, 3, size)
    assert torch.equal(CouplingPrior(size)().log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_a_moved_one_is_another_density_that_integrates_to_one():
    prior = CouplingPrior(2, num_couplings=2, flow_hidden_sizes=(6,))
    for each in prior.networks:
        nn.init.normal_(each.last.weight, std=0.5)
    line = torch.linspace(-40, 40, 1001)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        log_p = prior().log_prob(grid)
    assert abs(log_p.exp().sum() * (line[1] - line[0]) ** 2 - 1) < 1e-4
    assert (log_p - Normal(0.0, 1.0).log_prob(grid).sum(-1)).abs().max() > 0.1


def test_its_draws_have_its_density():
    """E[log p(z)] of draws is minus the entropy, by quadrature."""
    prior = CouplingPrior(2, num_couplings=2, flow_hidden_sizes=(6,))
    for each in prior.networks:
        nn.init.normal_(each.last.weight, std=0.5)
    line = torch.linspace(-40, 40, 1001)
    with torch.no_grad():
        log_p = prior().log_prob(torch.cartesian_prod(line, line))
        entropy = -(log_p.exp() * log_p).sum() * (line[1] - line[0]) ** 2
        drawn = prior().expand([4000]).sample()
        found = -prior().log_prob(drawn)
    assert abs(found.mean() - entropy) < 4 * found.std() / len(found) ** 0.5


def test_normalization_starts_from_data():
    layer, x = ActivationNormalizer(3), 2 + 5 * torch.randn(400, 3)
    x[:, 2] = 1.0  # the same in all data
    layer.initialise(x)
    y = layer()(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(3))
    torch.testing.assert_close(y.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))


def test_orders_are_no_weights():
    assert not Reordering(torch.tensor([1, 0])).state_dict()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"latent_size": 1}, "latent_size must be at least 2 for a coupling, got 1"),
        ({"num_couplings": 3}, "num_couplings must be a positive even number, got 3"),
        ({"num_couplings": 0}, "num_couplings must be a positive even number, got 0"),
    ],
)
def test_bad_sizes_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        CouplingPrior(**{"latent_size": 4, **wrong})
