"""ReinMax: unbiased wherever f is quadratic in each coordinate, of third order elsewhere, and the paper's own form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pplvm
from pplvm.bounds import elbo
from tests.objectives.test_sitewise_categorical import TwoDice, X
from tests.problems import BernoulliToy, entries, exact_gradient, exact_moments


class Smooth(nn.Module):
    """v one of four, given x; log w = f(s (v . c)) of a smooth f; the model's prior is uniform."""

    def __init__(self, f, s: float = 1.0) -> None:
        super().__init__()
        self.f, self.s = f, s
        self.logits, self.c = nn.Parameter(torch.tensor([0.4, -0.3, 0.9, 0.1])), torch.tensor([0.8, -1.1, 0.5, 1.7])

    def model(self, x):
        with pyro.plate("batch", len(x)):
            v = pyro.sample("v", dist.OneHotCategorical(logits=torch.zeros(4)))
            pyro.factor("gain", self.f(self.s * (v @ self.c)))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("v", dist.OneHotCategorical(logits=self.logits))


def bias(objective, program) -> float:
    x = torch.zeros(1, 1)
    truth, _ = exact_gradient(program, x, elbo, 1)
    return float((exact_moments(objective, program, x)[0] - truth).norm())


def test_two_coordinates_in_a_quadratic():
    """A Gaussian around a sum and a product of one-hots: quadratic in each, not in both."""
    program = TwoDice("one-hot")
    truth, bound = exact_gradient(program, X, elbo, 1)
    mean, _, value = exact_moments(pplvm.BiasedReinMax(), program, X)
    assert (mean - truth).abs().max() < 1e-10 and value == pytest.approx(bound, abs=1e-10)
    assert (exact_moments(pplvm.BiasedStraightThrough(), program, X)[0] - truth).abs().max() > 0.1  # Euler's rule


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.83])
def test_a_bit_in_a_quadratic(theta):
    toy = BernoulliToy(math.log(theta / (1 - theta)), 0.1)
    mean, _, _ = exact_moments(pplvm.BiasedReinMax(), toy, torch.zeros(1, 1))
    assert float(mean) == pytest.approx(theta * (1 - theta) * 0.8, abs=1e-14)


def test_the_order_of_its_bias():
    """Of f at s times smaller differences the first order errs by s^2, the second by s^3: Heun's rule."""
    for objective, order in ((pplvm.BiasedStraightThrough(), 2), (pplvm.BiasedReinMax(), 3)):
        errors = [bias(objective, Smooth(torch.exp, s)) for s in (0.02, 0.01)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    assert bias(pplvm.BiasedReinMax(), Smooth(torch.exp)) > 0.05  # and it is biased
    assert bias(pplvm.BiasedReinMax(), Smooth(torch.square)) < 1e-14


def test_the_form_of_the_paper():
    """2 J((p + b) / 2) - J(p) / 2, with J(p) = diag(p) - p p', the slope of a softmax."""
    program, x = Smooth(torch.sin), torch.zeros(64, 1)
    torch.manual_seed(0)
    pplvm.Loss(pplvm.BiasedReinMax(), program)(x).backward()
    with pyro.poutine.trace() as kept:
        torch.manual_seed(0)
        program.guide(x)
    b, p = kept.trace.nodes["v"]["value"], program.logits.detach().softmax(0)
    slope = (program.s * b @ program.c).cos()[:, None] * program.c * program.s + math.log(1 / 4) - p.log()
    jacobian = [q.diag_embed() - q[..., None] * q[..., None, :] for q in ((p + b) / 2, p)]
    by_hand = ((2 * jacobian[0] - jacobian[1] / 2) @ slope[..., None])[..., 0].mean(0)
    assert torch.allclose(program.logits.grad, -by_hand, atol=1e-12)


def test_later_sites_move_by_the_same_rule():
    """Two sites, the second drawn given the first: unbiased where the slope by each is that of a quadratic."""

    class Chain(TwoDice):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                a = pyro.sample("a", dist.OneHotCategorical(logits=self.prior[0]))
                b = pyro.sample("b", dist.OneHotCategorical(logits=self.prior[1]))
                pyro.sample("x", dist.Normal(a @ self.effect[0] + b @ self.effect[1], 0.9).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                a = pyro.sample("a", dist.OneHotCategorical(logits=self.logits[0]))
                pyro.sample("b", dist.OneHotCategorical(logits=self.logits[1] + 0.1 * a @ self.slope))

    program = Chain("one-hot")
    program.slope = nn.Parameter(torch.randn(3, 3))
    truth, _ = exact_gradient(program, X, elbo, 1)
    found = [exact_moments(o, program, X)[0] for o in (pplvm.BiasedReinMax(), pplvm.BiasedStraightThrough())]
    second = entries(program, "slope")
    near, far = ((mean - truth).norm() / truth.norm() for mean in found)
    assert ((found[0] - truth)[second]).norm() < 1e-10 and near < 0.05 < far
