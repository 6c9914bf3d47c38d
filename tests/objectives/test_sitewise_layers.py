"""Site-wise rules where later sites are drawn again: t-tests against the exact gradient (40 groups of 400 draws)."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss
from pplvm.objectives.per_site import PerSite
from pplvm.particles import dependencies
from tests.noise import LIMIT, frozen, grouped_gradients, z_scores
from tests.problems import exact_gradient, small_net, two_data

RULES = {
    "ARM": lambda: ARM(),
    "ARM, iwae, K=3": lambda: ARM(iwae, 3),
    "DisARM": lambda: DisARM(),
    "DisARM, K=3": lambda: DisARM(elbo, 3),
    "DisARM, iwae, K=3": lambda: DisARM(iwae, 3),
    "DisARM, renyi, K=2": lambda: DisARM(renyi(0.5), 2),
    "ARMS of 3": lambda: ARMS(3),
    "ARMS of 4, K=2": lambda: ARMS(4, 2),
    "MuProp": lambda: MuProp(),
    "MuProp, simple": lambda: MuProp(linear=False),
    "REBAR": lambda: frozen(REBAR(0.5, 0.7)),
    "RELAX, K=2": lambda: frozen(RELAX(None, 0.4, 0.7, 2)),
    "double": lambda: frozen(DoubleControlVariate(2, -0.8)),
    "measure-valued": lambda: MeasureValued(),
    "local": lambda: LocalExpectation(),
    "per site, K=3": lambda: PerSite(num_particles=3),
    "per site, mixed": lambda: PerSite({"z_1": ARM(), "z_2": REBAR()}),
}
FEW = ("DisARM, iwae, K=3", "ARMS of 3", "REBAR", "double", "local")


def worst(objective, net, x, groups=40, rows=400):
    truth, _ = exact_gradient(net, x, objective.bound, objective.num_particles)
    return z_scores(grouped_gradients(objective, net, x, groups, rows), truth).abs().max()


@pytest.mark.parametrize("name", RULES)
def test_two_layers(name):
    assert worst(RULES[name](), small_net((2, 2)), two_data()[:1]) < LIMIT


@pytest.mark.parametrize("name", ["DisARM", "REBAR", "MuProp"])
def test_three_layers(name):
    assert worst(RULES[name](), small_net((1, 2, 1)), two_data()[:1]) < LIMIT


def test_the_t_test_has_power(monkeypatch):
    """Later sites kept as they were instead of drawn anew for the partner: a plausible and wrong shortcut."""
    right = dependencies._dependents

    def keeping(*args):
        found, reads_values = right(*args)
        return {name: replace(d, redrawn=frozenset()) for name, d in found.items()}, reads_values

    monkeypatch.setattr(dependencies, "_dependents", keeping)
    for rule in (DisARM(), LocalExpectation()):
        assert worst(rule, small_net((2, 2)), two_data()[:1]) > 2 * LIMIT


class TwoBits(nn.Module):
    """a and b in the guide: b without a, given a through torch, or through Python numbers, which no trail follows."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(4)
        self.prior, self.effect = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(3))
        self.a, self.b, self.gap = (nn.Parameter(torch.randn(())) for _ in range(3))
        self.how = how

    def model(self, x):
        with pyro.plate("batch", len(x)):
            a = pyro.sample("a", dist.Bernoulli(logits=self.prior[0]))
            b = pyro.sample("b", dist.Bernoulli(logits=self.prior[1]))
            w = self.effect
            pyro.sample("x", dist.Normal(w[0] * a + 2 * w[1] * b + 3 * w[2] * a * b, 0.7), obs=x[:, 0])

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            a = pyro.sample("a", dist.Bernoulli(logits=self.a * x[:, 0]))
            if self.how == "numbers":
                a = torch.tensor(a.tolist())
            pyro.sample("b", dist.Bernoulli(logits=self.b + (2 * self.gap * a if self.how != "independent" else 0.0)))


@pytest.mark.parametrize("how", ["independent", "torch", "numbers"])
@pytest.mark.parametrize("name", FEW)
def test_sites_without_events(name, how):
    """Scalar sites, with and without a dependency; slopes need torch."""
    if how == "numbers" and name in ("REBAR", "double"):
        pytest.skip("a relaxed value carries a slope, which plain numbers cannot")
    assert worst(RULES[name](), TwoBits(how), torch.tensor([[0.8]])) < LIMIT


class Nested(nn.Module):
    """A bit for each of three parts of a datum, then one for the whole: a plate nested in the batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.prior, self.effect = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(4))
        self.part, self.whole = nn.Parameter(torch.randn(3, 1)), nn.Parameter(torch.randn(2))

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            c = pyro.sample("c", dist.Bernoulli(logits=self.prior[0]))
            with pyro.plate("parts", 3, dim=-2):
                b = pyro.sample("b", dist.Bernoulli(logits=self.prior[1] + c))  # (3, B)
                level = self.effect[:3, None] * b + 2 * self.effect[3] * b * c
                pyro.sample("x", dist.Normal(level, 0.8), obs=x.T)

    def guide(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            with pyro.plate("parts", 3, dim=-2):
                b = pyro.sample("b", dist.Bernoulli(logits=self.part * x.T))
            pyro.sample("c", dist.Bernoulli(logits=self.whole[0] + self.whole[1] * b.sum(-2, keepdim=b.dim() > 2)))


@pytest.mark.parametrize("name", FEW)
def test_a_nested_plate(name):
    assert worst(RULES[name](), Nested(), torch.tensor([[0.8, -0.4, 1.3]])) < LIMIT


class OwnMinibatch(nn.Module):
    """The plate draws two of the data by itself: each neighbour of a draw must be of the same two."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(0.4))

    def model(self, x):
        with pyro.plate("batch", len(x), subsample_size=2) as rows:
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(100 * x[rows] + b, 1.0), obs=x[rows])

    def guide(self, x):
        with pyro.plate("batch", len(x), subsample_size=2):
            pyro.sample("b", dist.Bernoulli(logits=self.logit))


@pytest.mark.parametrize("rule", [DisARM(), LocalExpectation(), MeasureValued(), REBAR(), DisARM(elbo, 3)])
def test_a_plate_that_draws_its_own_minibatch(rule):
    """Other rows for a neighbour would put 100 x of one datum against another: thousands of nats."""
    program, x = OwnMinibatch(), torch.arange(6.0) / 6
    loss = Loss(rule, program)
    found = torch.stack([torch.autograd.grad(loss(x), program.logit)[0] for _ in range(20)])
    p = torch.sigmoid(program.logit)
    assert found.abs().max() < 100 * p * (1 - p)
