"""Laws between the site-wise rules (notes D7): which never varies more, and which is which in disguise."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.objective import Loss
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.particles.pair import pair_up
from tests.noise import exact_with_noise
from tests.problems import BernoulliToy, exact_moments, small_net, two_data

SMALL = {
    "elbo, two bits": (lambda: small_net((2,)), elbo, 1),
    "elbo, other numbers": (lambda: small_net((2,), seed=5), elbo, 1),
    "elbo, K=2": (lambda: small_net((1,), seed=3), elbo, 2),
    "iwae, K=2": (lambda: small_net((1,)), iwae, 2),
    "renyi, K=2": (lambda: small_net((1,), seed=7), renyi(0.5), 2),
}


@pytest.mark.parametrize("name", SMALL)
def test_disarm_never_varies_more_than_arm(name, monkeypatch):
    """Of every parameter, exactly: it is ARM's mean over the noise, given the draws."""
    make, bound, K = SMALL[name]
    net = make()
    for x in two_data().unsqueeze(1):
        arm_mean, arm = exact_with_noise(ARM(bound, K), net, x, 3, monkeypatch)
        mean, disarm = exact_with_noise(DisARM(bound, K), net, x, 1, monkeypatch)
        assert (mean - arm_mean).abs().max() < 1e-10
        assert (disarm <= arm + 1e-12).all() and disarm.sum() < arm.sum()


@pytest.mark.parametrize("t", [0.1, 0.45, 0.8])
def test_disarm_never_varies_more_than_two_independent_draws_of_one_bit(t, monkeypatch):
    x = torch.zeros(1, 1)
    for phi in (-4.0, -1.0, 0.0, 0.3, 2.5):
        toy = BernoulliToy(phi, t)
        disarm = exact_with_noise(DisARM(), toy, x, 1, monkeypatch)[1]
        assert disarm <= exact_moments(LeaveOneOut(elbo, 2), toy, x)[1] + 1e-14


def one_seed(objective, net, x):
    """The gradient (P,) of one seed, after the check of the first batch."""
    loss = Loss(objective, net)
    if loss.control is not None:
        loss.control.eval()
    loss(x)
    torch.manual_seed(3)
    found = torch.autograd.grad(loss(x), list(net.parameters()))
    return torch.cat([g.flatten() for g in found])


SAME = {
    "REBAR without coefficient is the score function": (lambda: REBAR(0.5, 0.0), lambda: ScoreFunction()),
    "the same with particles": (lambda: REBAR(0.5, 0.0, 3), lambda: ScoreFunction(elbo, 3)),
    "RELAX with its network at zero is REBAR": (lambda: RELAX(coefficient=0.6), lambda: REBAR(coefficient=0.6)),
    "ARMS of two draws is DisARM": (lambda: ARMS(2), lambda: DisARM()),
    "the same with particles, ARMS": (lambda: ARMS(2, 3), lambda: DisARM(elbo, 3)),
    "double without coefficient is leave-one-out": (lambda: DoubleControlVariate(3), lambda: LeaveOneOut(elbo, 3)),
    "no rule at all is the score function": (lambda: PerSite(), lambda: ScoreFunction()),
    "no rule at all is leave-one-out": (lambda: PerSite(num_particles=3), lambda: LeaveOneOut(elbo, 3)),
}


@pytest.mark.parametrize("name", SAME)
def test_two_names_of_one_rule(name):
    """Draw by draw, on one layer, where all terms depend on the site."""
    one, other = SAME[name]
    net, x = small_net((3,)), two_data()
    assert torch.allclose(one_seed(one(), net, x), one_seed(other(), net, x), atol=1e-12)


def test_different_rules_differ_draw_by_draw():
    net, x = small_net((3,)), two_data()
    found = [one_seed(rule, net, x) for rule in (REBAR(), ScoreFunction(), DisARM(), ARM(), ARMS(3), MuProp())]
    gaps = torch.pdist(torch.stack(found))
    assert gaps.min() > 1e-3


class ThreeBits(nn.Module):
    """f is a table of the eight states; logits of each datum, so that one backward pass yields every gradient."""

    def __init__(self, logits, draws):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits).expand(draws, 3).clone())
        self.table = torch.randn(8, generator=torch.Generator().manual_seed(3))

    def f(self, b):
        return self.table[(b * torch.tensor([1, 2, 4])).sum(-1).long()]

    def model(self, x):
        with pyro.plate("batch", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=self.logits.detach()).to_event(1))
            pyro.factor("gain", self.f(b))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=self.logits).to_event(1))

    def truth(self):
        states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        logits = self.logits[0].detach().requires_grad_()
        probability = dist.Bernoulli(logits=logits).log_prob(states).sum(-1).exp()
        return torch.autograd.grad((probability * self.f(states)).sum(), logits)[0]

    def gradients(self, objective):
        x = torch.zeros(len(self.logits), 1)
        surrogate = objective.estimate(pair_up(self.model, self.guide, (x,), {}), x).surrogate
        return torch.autograd.grad(surrogate.sum(), self.logits)[0]


@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0], [-4.0, 0.0, 1.0], [5.0, 0.7, -0.7]])
@pytest.mark.parametrize("n, K", [(2, 1), (3, 1), (4, 2), (7, 1)])
def test_arms_is_unbiased(logits, n, K, draws=40_000):
    """4.5 standard errors; the correlation left out shifts the mean by more (below)."""
    program = ThreeBits(logits, draws)
    found = program.gradients(ARMS(n, K))
    assert ((found.mean(0) - program.truth()) / found.std(0) * draws**0.5).abs().max() < 4.5


def test_the_test_of_arms_has_power(draws=40_000):
    """Draws taken for independent: the gradient too large by 1 - r, for at a half three draws have r < 0."""
    program = ThreeBits([0.0, 0.0, 0.0], draws)
    together = (2 * 0.5**0.5 - 1) ** 2
    wrong = program.gradients(ARMS(3)) * (0.5 - together) / 0.25
    assert ((wrong.mean(0) - program.truth()) / wrong.std(0) * draws**0.5).abs().max() > 9


def test_more_antithetic_draws_vary_less(draws=20_000):
    program = ThreeBits([-1.0, 0.4, 0.2], draws)
    spread = [float(program.gradients(ARMS(n)).var(0).sum()) for n in (2, 3, 4, 8)]
    assert all(more < 0.9 * fewer for fewer, more in zip(spread[:-1], spread[1:], strict=True))
