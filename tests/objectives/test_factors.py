"""A factor in the guide, which is a term and no draw."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pplvm.bounds import elbo
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction


class Factored(torch.nn.Module):
    def __init__(self, has_rsample):
        super().__init__()
        self.a, self.has_rsample = torch.nn.Parameter(torch.tensor([0.3, -0.4, 0.8])), has_rsample

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z, y = (pyro.sample(name, dist.Bernoulli(0.5)) for name in "zy")
            pyro.sample("x", dist.Normal(z + y, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.a[0] * x))
            pyro.sample("y", dist.Bernoulli(logits=self.a[1] * x))
            pyro.factor("f", self.a[2] * z, has_rsample=self.has_rsample)


@pytest.mark.parametrize("has_rsample", [True, False])
@pytest.mark.parametrize("make", [ScoreFunction, LeaveOneOut, lambda: LeaveOneOut(elbo, 3), DisARM])
def test_a_factor_of_the_guide(make, has_rsample):
    """It is no draw: two bits and its own slope, by summing all states."""
    torch.manual_seed(0)
    program, x = Factored(has_rsample), torch.full((200_000,), 0.7)
    bits = torch.cartesian_prod(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))  # (4, 2)
    log_q = dist.Bernoulli(logits=program.a[:2] * 0.7).log_prob(bits).sum(-1)
    log_p = dist.Normal(bits.sum(-1), 1.0).log_prob(torch.tensor(0.7)) - 2 * math.log(2)
    truth = torch.autograd.grad((log_q.exp() * (log_p - log_q - program.a[2] * bits[:, 0])).sum(), program.a)[0]
    found = torch.autograd.grad(-Loss(make(), program)(x), program.a)[0]
    known = slice(None) if has_rsample else slice(2)  # Pyro counts the other kind as a score, whose mean is zero
    assert (found - truth)[known].abs().max() < 0.01
