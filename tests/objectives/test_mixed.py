"""A discrete site, then a Gaussian one whose path depends on it: means against quadrature, exactly."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import pair_up
from tests.problems import Forced, entries, per_row_gradients, sampled_gradients


class Mixed(nn.Module):
    """c ~ Bern, y | c ~ N, x | c, y ~ N; the guide draws c from x, then y from c and x."""

    def __init__(self):
        super().__init__()
        numbers = {"prior": 0.4, "gap": 1.2, "slope": 0.8, "shift": -0.5, "a": 0.9, "b": -0.3, "m": 0.7, "r": 0.4}
        for name, value in numbers.items():
            setattr(self, name, nn.Parameter(torch.tensor(value)))
        self.log_scale = nn.Parameter(torch.tensor(-0.2))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", dist.Bernoulli(logits=self.prior))
            y = pyro.sample("y", dist.Normal(self.gap * c, 1.0))
            pyro.sample("x", dist.Normal(self.slope * y + self.shift * c, 0.7), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", dist.Bernoulli(logits=self.a * x + self.b))
            pyro.sample("y", dist.Normal(self.m * c + self.r * x, self.log_scale.exp()))


X = torch.tensor([0.6], dtype=torch.float64)


def every_draw(program, K, nodes):
    """All K-tuples of c and of quadrature nodes: probability (T,), c and y (K, T), y on its path."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    points, weights = torch.tensor(points), torch.tensor(weights / weights.sum())
    states = torch.tensor(list(itertools.product(range(2 * nodes), repeat=K))).T  # (K, T)
    c, node = (states % 2).double(), states // 2
    chance = torch.sigmoid(program.a * X + program.b)
    probability = (torch.where(c == 1, chance, 1 - chance) * weights[node]).prod(0)
    y = program.m * c + program.r * X + program.log_scale.exp() * points[node]
    return probability, c, y


def mean_gradient(objective, program, nodes):
    K = objective.num_particles
    probability, c, y = every_draw(program, K, nodes)
    pair = pair_up(program.model, program.guide, (X,), {})
    with Forced({"c": c if K > 1 else c[0], "y": y if K > 1 else y[0]}):
        surrogate = objective.estimate(pair, X.expand(c.shape[1])).surrogate
    return per_row_gradients((probability.detach() @ surrogate).reshape(1), list(program.parameters()))[0]


def tables(program, c, y):
    """Log p and log q at given draws."""
    log_q = dist.Bernoulli(logits=program.a * X + program.b).log_prob(c)
    log_q = log_q + dist.Normal(program.m * c + program.r * X, program.log_scale.exp()).log_prob(y)
    log_p = dist.Bernoulli(logits=program.prior).log_prob(c) + dist.Normal(program.gap * c, 1.0).log_prob(y)
    log_p = log_p + dist.Normal(program.slope * y + program.shift * c, 0.7).log_prob(X)
    return log_p, log_q


def true_gradient(bound, program, K, nodes):
    """Of sum_c q(c) E_noise[bound], everything live: the derivative of the expectation itself."""
    probability, c, y = every_draw(program, K, nodes)
    log_p, log_q = tables(program, c, y)
    value = (probability * bound(log_p - log_q)).sum()
    return torch.stack(torch.autograd.grad(value, list(program.parameters())))


@pytest.mark.parametrize(
    "objective",
    [
        ScoreFunction(elbo, 1),
        ScoreFunction(elbo, 2),
        ScoreFunction(iwae, 2),
        ScoreFunction(renyi(0.5), 2),
        LeaveOneOut(elbo, 2),
        LeaveOneOut(iwae, 2),
        LeaveOneOut(renyi(2.0), 2),
        LeaveOneOut(tvo(3), 2),
        LeaveOneOut(jackknife(1), 2),
    ],
)
def test_discrete_by_score_and_gaussian_by_path(objective):
    program, K = Mixed(), objective.num_particles
    found = mean_gradient(objective, program, nodes=12)
    truth = true_gradient(objective.bound, program, K, nodes=12)
    assert (found - truth).abs().max() < 1e-10
    assert truth.abs().min() > 1e-3


def test_wake_phases_score_both_sites():
    program = Mixed()
    probability, c, y = every_draw(program, 2, nodes=12)
    log_p, log_q = tables(program, c, y.detach())
    weights = (log_p - log_q).detach().softmax(0)
    value = (probability.detach() * (weights * (log_p + log_q)).sum(0)).sum()
    truth = torch.stack(torch.autograd.grad(value, list(program.parameters())))
    found = mean_gradient(ReweightedWakeSleep(2), program, nodes=12)
    assert (found - truth).abs().max() < 1e-10 and truth.abs().min() > 1e-3
    model = torch.stack([entries(program, name) for name in ("prior", "gap", "slope", "shift")]).any(0)
    of_iwae = true_gradient(iwae, program, 2, nodes=12)
    assert (found - of_iwae)[model].abs().max() < 1e-10 < 1e-3 < (found - of_iwae)[~model].abs().min()


def test_only_the_discrete_site_is_scored():
    program = Mixed()
    drawn = draw_particles(program.model, program.guide, X, num_particles=3)
    assert drawn.score_sites == ("c",)
    assert torch.equal(drawn.log_q_score, drawn.log_q_sites["c"])


def test_local_expectation_sums_out_the_discrete_site():
    program = Mixed()
    rows = sampled_gradients(LocalExpectation(), program, X, 3000)
    truth = true_gradient(elbo, program, 1, nodes=12)
    assert ((rows.mean(0) - truth) / (rows.var(0) / len(rows)).sqrt().clamp(min=1e-9)).abs().max() < 4.5


def test_rules_that_need_all_paths_refuse():
    with pytest.raises(ObjectiveError, match="'c' has none"):
        Loss(Pathwise(), Mixed())(X)


def test_exact_wants_the_guide_without_the_summed_out_site():
    with pytest.raises(ValueError, match="guide site 'c' is summed out"):
        Loss(Exact(), Mixed())(X)
