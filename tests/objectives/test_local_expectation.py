"""Local expectations of draws that a mask hides: the mean gradient over every draw is that of the bound, summed."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from tests.problems import Forced

STATES = [torch.tensor([bits]).double() for bits in itertools.product([0.0, 1.0], repeat=2)]  # (1, 2) each


class HiddenBits(nn.Module):
    """z ~ Bernoulli(sigmoid(prior)) of two bits, hidden where x < 0, x ~ N(z w, 1), which reads hidden bits too."""

    def __init__(self, within=False) -> None:
        super().__init__()
        self.prior, self.slope = nn.Parameter(torch.tensor([0.3, -0.6])), nn.Parameter(torch.tensor([0.8, -0.4]))
        self.weight, self.within = nn.Parameter(torch.tensor([1.5, -0.7])), within

    def draw(self, logits, x):
        fn = dist.Bernoulli(logits=logits).to_event(1)
        if self.within:
            return pyro.sample("z", fn.mask(x >= 0))
        with poutine.mask(mask=x >= 0):
            return pyro.sample("z", fn)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = self.draw(self.prior.expand(len(x), 2), x)
            pyro.sample("x", dist.Normal(z @ self.weight, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            self.draw(x[:, None] * self.slope, x)

    def log_q(self, x, z):
        return dist.Bernoulli(logits=x[:, None] * self.slope).to_event(1).log_prob(z)

    def elbo(self, x):
        """(1,), over all states."""
        total = 0
        for z in STATES:
            log_q = self.log_q(x, z)
            gain = dist.Bernoulli(logits=self.prior).to_event(1).log_prob(z) - log_q
            data = dist.Normal(z @ self.weight, 1.0).log_prob(x)
            total = total + log_q.exp() * (data + torch.where(x >= 0, gain, 0.0))
        return total


def gradients(value, program):
    found = torch.autograd.grad(value, list(program.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([each.flatten() for each in found])


@pytest.mark.parametrize("at", [-0.9, 1.4])
def test_its_mean_over_every_draw_is_the_gradient_of_the_bound(at):
    program, x = HiddenBits(), torch.tensor([at])
    loss = Loss(LocalExpectation(), program)
    loss(x)  # checks the program, on draws of its own
    mean = 0
    for z in STATES:
        with Forced({"z": z}):
            mean = mean + program.log_q(x, z).exp().detach() * gradients(loss(x), program)
    torch.testing.assert_close(mean, gradients(-program.elbo(x).sum(), program))
    assert (mean[2:4].abs() > 0.01).all()  # the guide learns from data that read a hidden draw


def test_a_mask_within_the_distribution_is_refused():
    with pytest.raises(ObjectiveError, match="masked draws are not supported"):
        Loss(LocalExpectation(), HiddenBits(within=True))(torch.tensor([1.0]))
