"""The affine coupling: what moves, what stays, and slopes of its bounded log-scale."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.distributions.transforms.affine_coupling import AffineCoupling
from pplvm.distributions.transforms.permutation import Permutation


def test_the_given_half_stays_and_the_other_depends_on_it():
    coupling = AffineCoupling(nn.Linear(3, 8), size=7)
    x = torch.randn(7)
    jacobian = torch.autograd.functional.jacobian(lambda v: coupling(v), x)
    assert torch.equal(jacobian[:3], torch.eye(7)[:3])
    assert torch.equal(jacobian[3:, 3:], jacobian[3:, 3:].diagonal().diag())
    assert (jacobian[3:, :3] != 0).all()


def test_zeros_are_the_identity():
    x = torch.randn(4, 6)
    coupling = AffineCoupling(lambda a: torch.zeros(*a.shape[:-1], 6), size=6)
    y = coupling(x)
    assert torch.equal(y, x) and torch.equal(coupling.log_abs_det_jacobian(x, y), torch.zeros(4))


def test_slopes_of_the_log_scale_are_true_ones_far_out():
    """A clamp that passes gradients differs from finite differences there."""

    def value(raw):
        coupling = AffineCoupling(lambda a: torch.stack([0 * raw, raw]).expand(*a.shape[:-1], 2), size=2)
        x = torch.tensor([0.3, 0.7])
        return coupling(x).sum() + coupling.log_abs_det_jacobian(x, coupling(x))

    for at in (0.0, 3.0, 9.0):
        assert torch.autograd.gradcheck(value, torch.tensor(at, requires_grad=True))
    raw = torch.zeros((), requires_grad=True)
    coupling = AffineCoupling(lambda a: torch.stack([0 * raw, raw]), size=2)
    x = torch.tensor([0.3, 0.7])
    (slope,) = torch.autograd.grad(coupling.log_abs_det_jacobian(x, coupling(x)), raw)
    assert slope == 1
    far = torch.tensor(1e4, dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(value(far).float(), far)
    assert slope.isfinite()


def test_a_flow_in_two_dimensions_integrates_to_one():
    torch.manual_seed(3)
    networks = [nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 2)) for _ in range(4)]
    flip = torch.tensor([1, 0])
    transforms = [t for net in networks for t in (AffineCoupling(net, 2), Permutation(flip))]
    fn = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), transforms)
    line = torch.linspace(-20, 20, 601)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        total = fn.log_prob(grid).exp().sum() * (line[1] - line[0]) ** 2
    assert abs(total - 1) < 1e-4
    assert fn.event_shape == (2,) and fn.expand([3]).to_event(1).rsample((4,)).shape == (4, 3, 2)


@pytest.mark.parametrize("size", [1, 0])
def test_one_coordinate_cannot_be_coupled(size):
    with pytest.raises(ValueError, match="AffineCoupling: size must be at least 2"):
        AffineCoupling(nn.Linear(1, 1), size)


def test_bad_networks_and_bounds_are_refused():
    with pytest.raises(ValueError, match="bound must be positive, got 0"):
        AffineCoupling(nn.Linear(2, 4), 4, bound=0)
    told = "the network must give 2 numbers for each of the 3 coordinates that are transformed, 6 in all, and gives 5"
    with pytest.raises(ValueError, match=told):
        AffineCoupling(nn.Linear(2, 5), 5)(torch.zeros(5))
