"""Categories, then a Gaussian, then a bit: every sound rule against quadrature; rules named at sites."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae, renyi
from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta
from tests.noise import LIMIT, frozen, grouped_gradients, z_scores

X = torch.tensor([0.6], dtype=torch.float64)


class Three(nn.Module):
    """c ~ 3 categories, y | c ~ N, b | y ~ Bern, x | c, y, b ~ N; the guide draws all three in the same order."""

    def __init__(self, **rules):
        super().__init__()
        torch.manual_seed(11)
        sizes = {"prior": 3, "gap": 3, "w": 4, "a": 3, "m": 3, "k": 3}
        for name, size in sizes.items():
            setattr(self, name, nn.Parameter(torch.randn(size)))
        self.log_scale = nn.Parameter(torch.tensor(-0.2))
        self.rules = rules

    def infer(self, name):
        return {"grad": self.rules[name]} if name in self.rules else {}

    def of_model(self, c, y, b, x):
        prior, y_prior = dist.OneHotCategorical(logits=self.prior), dist.Normal(c @ self.gap, 1.0)
        level = self.w[0] + self.w[1] * y + 2 * self.w[2] * b * (c @ self.gap) + self.w[3] * b * y
        return prior, y_prior, dist.Bernoulli(logits=y), dist.Normal(level, 0.8)

    def of_guide(self, c, y, x):
        scale = self.log_scale.exp()
        of_c = dist.OneHotCategorical(logits=self.a * x[..., None])
        of_b = dist.Bernoulli(logits=self.k[0] + self.k[1] * y + self.k[2] * c[..., 0])
        return of_c, dist.Normal(c @ self.m + 0.3 * x, scale), of_b

    def model(self, x):
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(logits=self.prior))
            y = pyro.sample("y", dist.Normal(c @ self.gap, 1.0))
            b = pyro.sample("b", dist.Bernoulli(logits=y))
            pyro.sample("x", self.of_model(c, y, b, x)[3], obs=x)

    def guide(self, x):
        nothing = torch.zeros(3)
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", self.of_guide(nothing, x, x)[0], infer=self.infer("c"))
            y = pyro.sample("y", self.of_guide(c, x, x)[1], infer=self.infer("y"))
            pyro.sample("b", self.of_guide(c, y, x)[2], infer=self.infer("b"))


def truth_of(program, bound=elbo, K=1, nodes=24):
    """The gradient (P,) of sum_c int dy sum_b q bound(log w), by Gauss-Hermite in the noise of y."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    points, weights = torch.tensor(points), torch.tensor(weights / weights.sum())
    states = torch.tensor(list(itertools.product(range(3), range(nodes), range(2))))  # (S, 3)
    c, b = torch.eye(3)[states[:, 0]], states[:, 2].double()
    x = X.expand(len(states))
    y = program.of_guide(c, x, x)[1].loc + program.log_scale.exp() * points[states[:, 1]]
    q_c, q_y, q_b = program.of_guide(c, y, x)
    p_c, p_y, p_b, p_x = program.of_model(c, y, b, x)
    log_q = q_c.log_prob(c) + q_y.log_prob(y) + q_b.log_prob(b)
    log_w = p_c.log_prob(c) + p_y.log_prob(y) + p_b.log_prob(b) + p_x.log_prob(x) - log_q
    chance = (q_c.log_prob(c) + q_b.log_prob(b)).exp() * weights[states[:, 1]]
    tuples = torch.cartesian_prod(*[torch.arange(len(states))] * K).reshape(-1, K).T
    value = (chance[tuples].prod(0) * bound(log_w[tuples])).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(program.parameters()))])


def worst(objective, program=None):
    program = program or Three()
    truth = truth_of(program, objective.bound, objective.num_particles if objective.bound is not elbo else 1)
    assert truth.abs().min() > 1e-3
    return z_scores(grouped_gradients(objective, program, X, 40, 400), truth).abs().max()


SOUND = {
    "nothing named": lambda: PerSite(),
    "nothing named, K=3": lambda: PerSite(num_particles=3),
    "DisARM": lambda: DisARM(),
    "DisARM, iwae, K=2": lambda: DisARM(iwae, 2),
    "DisARM, renyi, K=2": lambda: DisARM(renyi(0.5), 2),
    "MuProp": lambda: MuProp(),
    "REBAR": lambda: frozen(REBAR(0.5, 0.7)),
    "RELAX": lambda: frozen(RELAX(None, 0.5, 0.7)),
    "double": lambda: frozen(DoubleControlVariate(2, -0.5)),
    "measure-valued, the Gaussian too": lambda: MeasureValued(),
    "local": lambda: LocalExpectation(),
    "all three named": lambda: PerSite({"c": frozen(REBAR()), "y": MeasureValued(), "b": ARM()}),
    "two named, K=2": lambda: PerSite({"c": DisARM(), "b": ARMS(3)}, 2),
}


@pytest.mark.parametrize("name", SOUND)
def test_mean_is_the_gradient_by_quadrature(name):
    assert worst(SOUND[name]()) < LIMIT


def test_the_t_test_has_power(monkeypatch):
    """The path of the Gaussian left open where a rule takes it, so that it counts twice."""
    monkeypatch.setattr("pplvm.objectives.sitewise.DetachedSites._pyro_post_sample", lambda self, msg: None)
    assert worst(MeasureValued()) > 2 * LIMIT


def test_rules_named_at_sites_are_those_named_in_the_objective():
    """Draw by draw; the dictionary of `PerSite` goes before what the site says."""
    rules = {"c": DisARM(), "y": MeasureValued(), "b": LocalExpectation()}
    found = []
    for objective, program in (
        (PerSite(rules, 2), Three()),
        (PerSite(num_particles=2), Three(**rules)),
        (PerSite(rules, 2), Three(c=MuProp())),
        (PerSite(num_particles=2), Three()),
    ):
        loss = Loss(objective, program)
        loss(X)
        torch.manual_seed(2)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(X), list(program.parameters()))]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[3])


def test_a_rule_of_the_whole_gives_way_to_that_of_a_site():
    assert worst(DisARM(), Three(b=LocalExpectation())) < LIMIT


@pytest.mark.parametrize(
    "rules, match",
    [
        ({"c": ARM()}, r"ARM: guide site 'c' \(OneHotCategorical\) cannot follow this rule.*Bernoulli sites"),
        ({"y": DisARM()}, r"DisARM: guide site 'y' \(Normal\)"),
        ({"y": LocalExpectation()}, "'y'.*no finite number of states"),
        ({"y": REBAR()}, "'y'.*for Bernoulli and OneHotCategorical sites"),
        ({"b": DoubleControlVariate()}, "'b'.*needs num_particles of at least 2, got 1"),
        ({"b": DisARM(iwae)}, "'b'.*names the bound iwae, but that of the objective is elbo"),
        ({"b": 3}, r"'b' names 3.*: name a rule such as DisARM\(\)"),
        ({"b": DisARM}, "'b' names <class .*name a rule such as"),
    ],
)
def test_rules_that_do_not_suit_their_site(rules, match):
    with pytest.raises(ObjectiveError, match=match):
        Loss(PerSite(), Three(**rules))(X)
    with pytest.raises(ObjectiveError, match=match):
        Loss(PerSite(rules), Three())(X)


def test_a_site_rule_for_the_elbo_is_refused_under_another_bound():
    with pytest.raises(ObjectiveError, match="REBAR: guide site 'b'.*holds for the elbo only, not for iwae"):
        Loss(DisARM(iwae, 2), Three(b=REBAR()))(X)


def test_a_rule_for_no_site():
    with pytest.raises(ObjectiveError, match="names a rule for 'd', but the guide's latents are c, y, b"):
        Loss(PerSite({"d": DisARM()}), Three())(X)


class Silent(nn.Module):
    """A Gaussian that names a rule."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("y", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Normal(x / 2, 1.0), infer={"grad": MeasureValued()})


@pytest.mark.parametrize(
    "objective",
    [ScoreFunction(), LeaveOneOut(), Pathwise(), AnalyticKL(), StickTheLanding(), DoublyReparameterized()],
)
def test_rules_at_sites_are_never_ignored(objective):
    with pytest.raises(
        ObjectiveError, match=f"'y' names a gradient rule, MeasureValued, which {type(objective).__name__}"
    ):
        Loss(objective, Silent())(X)


def test_a_wrapper_obeys_them_where_what_it_wraps_does():
    assert Loss(Beta(PerSite(), 0.5), Silent())(X).isfinite()
    with pytest.raises(ObjectiveError, match="which Pathwise would ignore"):
        Loss(Beta(Pathwise(), 0.5), Silent())(X)


def test_exact_does_not_ignore_them_either():
    class Collapsed(Silent):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                c = pyro.sample("c", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(pyro.sample("y", dist.Normal(c, 1.0)), 1.0), obs=x)

    with pytest.raises(ObjectiveError, match="which Exact would ignore"):
        Loss(Exact(), Collapsed())(X)


class PathlessPrior(nn.Module):
    """A mixture as prior, which has no path, over a Gaussian guide, which has: the path must not be cut there."""

    def __init__(self):
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.tensor(0.2)), nn.Parameter(torch.tensor(-0.5))

    def model(self, x):
        parts = dist.Normal(torch.tensor([-1.0, 1.5]), 0.7)
        with pyro.plate("batch", len(x)):
            y = pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), parts))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Normal(self.loc + x / 2, self.log_scale.exp()))


@pytest.mark.parametrize("objective", [PerSite(), DisARM(), MuProp()])
def test_a_pathless_prior_leaves_the_guide_its_path(objective):
    found = []
    for rule in (objective, Pathwise()):
        program = PathlessPrior()
        loss = Loss(rule, program)
        loss(X)
        torch.manual_seed(1)
        found.append(torch.stack(torch.autograd.grad(loss(X), list(program.parameters()))))
    assert torch.allclose(found[0], found[1], atol=1e-12)
