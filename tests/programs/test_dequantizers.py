"""Dequantizers: the learned one starts uniform, stays within (0, 1), and is a density."""

import torch
from torch import nn

from pplvm.programs.dequantizers import FlowDequantizer, UniformDequantizer


def moved(shape, levels=4):
    dequantizer = FlowDequantizer(shape, levels, num_couplings=2, channels=6)
    for each in dequantizer.couplings.networks:
        nn.init.normal_(each.last.weight, std=0.3)
    return dequantizer


def test_it_starts_as_the_uniform_one():
    k = torch.randint(16, (3, 16)).double()
    u = torch.rand(5, 3, 16)
    learned, uniform = FlowDequantizer((1, 4, 4), levels=16)(k), UniformDequantizer(16)(k)
    torch.testing.assert_close(learned.log_prob(u), uniform.expand([3]).log_prob(u), atol=1e-12, rtol=0)


def test_a_learned_one_integrates_to_one_in_the_unit_square():
    """By quadrature over v, u = sigmoid(v), where the density has no corner."""
    line = torch.linspace(-60, 60, 801)
    v = torch.cartesian_prod(line, line)
    u = v.sigmoid().clamp(1e-300, 1 - 1e-16)
    slope = (torch.nn.functional.logsigmoid(v) + torch.nn.functional.logsigmoid(-v)).sum(-1)
    for k in (torch.zeros(1, 2), torch.tensor([[3.0, 1.0]])):
        with torch.no_grad():
            log_q = moved((2,))(k).log_prob(u)
        total = (log_q + slope).exp()[v.abs().amax(-1) < 35].sum() * (line[1] - line[0]) ** 2
        assert abs(total - 1) < 1e-6


def test_draws_are_inside_and_depend_on_k():
    dequantizer, k = moved((1, 4, 4)), torch.randint(4, (2, 16)).double()
    fn = dequantizer(k)
    u = fn.rsample((500,))
    assert u.shape == (500, 2, 16) and (u > 0).all() and (u < 1).all() and fn.support.check(u).all()
    other = dequantizer((k + 1) % 4)
    assert not torch.allclose(fn.log_prob(u.clone()), other.log_prob(u.clone()))
