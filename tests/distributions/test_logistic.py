"""The logistic distribution: finite where Pyro's draw is not, and else the same."""

import pyro.distributions as dist
import torch

from pplvm.distributions.logistic import Logistic


def test_draws_and_densities_are_pyros():
    loc, scale = torch.randn(3, 2), torch.rand(3, 2) + 0.5
    found = []
    for kind in (Logistic, dist.Logistic):
        torch.manual_seed(1)
        fn = kind(loc, scale).to_event(1).expand([4, 3])
        z = fn.rsample((5,))
        found.append((z, fn.log_prob(z)))
    for one, other in zip(*found, strict=True):
        assert one.shape[:3] == (5, 4, 3) and torch.equal(one, other)


def test_a_uniform_number_of_zero_is_finite(monkeypatch):
    """As float32 draws it once in 2^24."""
    monkeypatch.setattr(torch.Tensor, "uniform_", torch.Tensor.zero_)
    loc = torch.zeros(2, dtype=torch.float32, requires_grad=True)
    z = Logistic(loc, 1.0).rsample()
    assert z.dtype is torch.float32 and -18 < z.min() <= z.max() < -17
    z.sum().backward()
    assert torch.equal(loc.grad, torch.ones(2, dtype=torch.float32))
    assert dist.Logistic(loc, 1.0).rsample().isinf().all()
