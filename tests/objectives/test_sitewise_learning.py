"""What control variates learn: the gradient of the gradient's variance, and nothing else learns from it."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate
from pplvm.objectives.objective import Loss
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.objectives.test_contract import with_plate
from tests.problems import small_net, two_data


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))


LEARNING = {
    "REBAR": lambda: REBAR(0.6, 0.4),
    "RELAX": lambda: RELAX(network(), 0.6, 0.4),
    "double, K=2": lambda: DoubleControlVariate(2, -0.3),
    "double, K=3": lambda: DoubleControlVariate(3, -0.3),
    "per site": lambda: PerSite({"z": RELAX(network(), 0.6, 0.4)}),
}


class Rows(nn.Module):
    """Logits of each datum are parameters, so that a gradient shows each datum's own."""

    def __init__(self, draws, family=dist.Bernoulli, sizes=(3,)):
        super().__init__()
        torch.manual_seed(2)
        self.logits = nn.Parameter(torch.randn(sizes).expand(draws, *sizes).clone())
        self.effect, self.family = torch.randn(sizes), family

    def fn(self, logits):
        fn = self.family(logits=logits)
        return fn.to_event(logits.dim() - 1 - len(fn.event_shape))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.fn(self.logits.detach()))
            level = (z * self.effect).flatten(1 - self.effect.dim() - 1).sum(-1)
            pyro.factor("gain", (level - 0.4) ** 2 + level)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.fn(self.logits))


CASES = [(name, dist.Bernoulli, (3,)) for name in LEARNING] + [
    ("REBAR", dist.OneHotCategorical, (2, 3)),
    ("double, K=2", dist.OneHotCategorical, (2, 3)),
]


def second_moment(loss, x):
    """Mean over data of the squared norm of the gradient to the logits, at one seed; the loss itself."""
    torch.manual_seed(4)
    value = loss(x)
    (g,) = torch.autograd.grad(value, loss.program.logits, retain_graph=True)
    return (g * len(x)).square().sum() / len(x), value


@pytest.mark.parametrize("name, family, sizes", CASES)
def test_the_control_descends_the_second_moment(name, family, sizes, draws=50):
    """Its gradient is the finite difference of the measured second moment, at common random numbers."""
    loss, x = Loss(LEARNING[name](), Rows(draws, family, sizes)), torch.zeros(draws, 1)
    loss(x)
    parameters = list(loss.control.parameters())
    found = torch.autograd.grad(second_moment(loss, x)[1], parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        flat = parameter.detach().view(-1)
        step, start = 1e-5, float(flat[0])
        ends = []
        for sign in (1, -1):
            flat[0] = start + sign * step
            ends.append(float(second_moment(loss, x)[0]))
        flat[0] = start
        assert float(gradient.flatten()[0]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", ["REBAR", "RELAX", "double, K=3"])
def test_the_program_does_not_learn_from_it(name):
    """One seed, the control learning or not: the same gradients for the program, none for the control."""
    found = []
    for mode in ("train", "eval", "no gradient"):
        net = small_net((2, 2))
        loss = Loss(LEARNING[name](), net)
        loss(two_data())
        if mode == "eval":
            loss.eval()
        if mode == "no gradient":
            loss.control.requires_grad_(False)
        torch.manual_seed(9)
        loss(two_data()).backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        learned = [p.grad is not None and bool(p.grad.any()) for p in loss.control.parameters()]
        assert all(learned) if mode == "train" else not any(learned)
    assert torch.allclose(found[0], found[1], atol=1e-13) and torch.equal(found[1], found[2])


@pytest.mark.parametrize("name", ["REBAR", "RELAX", "double, K=2"])
def test_a_frozen_control_costs_no_double_backward(name, monkeypatch):
    loss, asked = Loss(LEARNING[name](), small_net((2,))), []
    loss(two_data())
    right = torch.autograd.grad
    record = lambda *a, **k: asked.append(k.get("create_graph", False)) or right(*a, **k)
    monkeypatch.setattr(torch.autograd, "grad", record)
    loss(two_data())
    assert any(asked)
    asked.clear()
    loss.eval()(two_data())
    assert asked and not any(asked)


@pytest.mark.parametrize("name", ["REBAR", "RELAX", "double, K=2"])
def test_variance_falls_as_the_control_learns(name, draws=1000):
    start = {"REBAR": lambda: REBAR(0.5, 0.0), "RELAX": lambda: RELAX(coefficient=0.0)}
    loss = Loss(start.get(name, lambda: DoubleControlVariate(2))(), Rows(draws))
    x = torch.zeros(draws, 1)
    loss(x)
    before = float(second_moment(loss, x)[0].detach())
    optimizer = torch.optim.Adam(loss.control.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    assert float(second_moment(loss, x)[0].detach()) < 0.97 * before


def test_parameter_groups():
    """The control's own group, ten times faster unless said otherwise; one group where nothing is learned."""
    net = SigmoidBeliefNet(8, (2,))
    loss = Loss(RELAX(), net)
    program, control = loss.parameter_groups(1e-3)
    assert program["lr"] == 1e-3 and control["lr"] == pytest.approx(1e-2)
    assert {id(p) for p in program["params"]} == {id(p) for p in net.parameters()}
    assert {id(p) for p in control["params"]} == {id(p) for p in loss.control.parameters()}
    assert loss.parameter_groups(1e-3, 0.5)[1]["lr"] == 0.5
    assert len(Loss(LeaveOneOut(), net).parameter_groups(1e-3)) == 1
    rule = REBAR()
    net.control = rule.control  # registered in the program as well, as a rule at a site must be
    assert len(Loss(rule, net).parameter_groups(1e-3)) == 1


@pytest.mark.parametrize("name", ["REBAR", "double, K=2"])
def test_the_size_of_a_subsampled_set_cancels_for_the_control_too(name):
    found = []
    for size_of in (lambda x: (len(x),), lambda x: (60, None, torch.arange(len(x)))):
        x = (torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.4).double()
        loss = Loss(LEARNING[name](), with_plate(size_of))
        loss(x)
        torch.manual_seed(4)
        found.append(torch.stack(torch.autograd.grad(loss(x), list(loss.control.parameters()))))
    assert torch.allclose(found[0], found[1]) and found[0].abs().min() > 1e-6
