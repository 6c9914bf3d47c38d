"""Random lower bounds among log-densities: right in the elbo, refused under every other bound, and why."""

import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO
from torch import nn

from pplvm.bounds import elbo, iwae, renyi, tvo
from pplvm.catalog import OBJECTIVES, find
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.weight_diagnostics import weight_health
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.particles.contract import ProgramError


class Noisy(dist.Normal):
    """N(loc, scale^2), whose log_prob has noise of mean -1/2: E[exp(noise)] is 1.65 and not 1."""

    is_random_lower_bound = True

    def log_prob(self, value):
        exact = super().log_prob(value)
        return exact + 1.5 * torch.randn_like(exact) - 0.5


class Program(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z, 1); the guide is the posterior, so that without noise all bounds are log p(x)."""

    def __init__(self, within="plain", role="model", penalized=False):
        super().__init__()
        self.penalized = penalized
        self.within, self.role = within, role
        self.loc = nn.Parameter(torch.zeros(()))

    def noisy(self, loc, scale, count):
        fn = Noisy(loc, scale)
        if self.within == "mask":
            return fn.mask(torch.ones(count, dtype=torch.bool))
        if self.within == "expand":
            return fn.expand([count])
        return (
            Noisy(loc[..., None] if loc.dim() else loc.expand(1), scale).to_event(1) if self.within == "event" else fn
        )

    def model(self, x):
        with pyro.plate("batch", len(x)):
            prior = self.noisy(self.loc, 1.0, len(x)) if self.role == "model" else dist.Normal(self.loc, 1.0)
            z = pyro.sample("z", prior)
            z = z[..., 0] if self.within == "event" else z
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            loc, scale = x[:, 0] / 2 + 0 * self.loc, 0.5**0.5
            q = self.noisy(loc, scale, len(x)) if self.role == "guide" else dist.Normal(loc, scale)
            if self.within == "event" and self.role == "model":
                q = dist.Normal(loc[:, None], scale).to_event(1)
            q = q.mask(torch.ones(len(x), dtype=torch.bool)) if self.within == "mask" else q
            z = pyro.sample("z", q)
            if self.penalized:
                pyro.deterministic("square", z**2)


@pytest.fixture
def x():
    return torch.linspace(-1, 1, 4)[:, None]


@pytest.mark.parametrize("within", ["plain", "event", "expand", "mask"])
def test_another_bound_refuses_the_site_through_wrappers_of_its_distribution(within, x):
    told = r"log_prob of model site 'z' \(Noisy\) is itself a random lower bound.*: use an objective on the elbo"
    with pytest.raises(ObjectiveError, match=told) as raised:
        Loss(Pathwise(iwae, 4), Program(within))(x)
    assert str(raised.value).count(". ") == 0  # one sentence


@pytest.mark.parametrize(
    "objective",
    [
        Pathwise(elbo, 2),
        AnalyticKL(2),
        StickTheLanding(2),
        LeaveOneOut(elbo, 2),
        Pathwise(renyi(1), 2),
        Beta(Pathwise(), 2.0),
        Warmup(FreeBits(AnalyticKL(), 0.1), 10),
        Penalized(Beta(AnalyticKL(), 0.5), {"square": 0.1}),
    ],
)
def test_the_elbo_takes_it(objective, x):
    Loss(objective, Program(penalized=True))(x).backward()


def test_the_refused_value_would_exceed_log_evidence_and_the_elbo_does_not(x):
    program, log_p = Program(), dist.Normal(0.0, 2**0.5).log_prob(x[:, 0])
    torch.manual_seed(0)
    bound = -torch.stack([Loss(Pathwise(elbo, 500), program)(x).detach() for _ in range(4)]).mean()
    assert bound < log_p.mean() - 0.3
    refused = Pathwise(iwae, 500)
    type(refused).is_elbo, kept = True, type(refused).is_elbo  # the refusal off
    try:
        assert -Loss(refused, program)(x) > log_p.mean() + 0.2
    finally:
        type(refused).is_elbo = kept


@pytest.mark.parametrize("objective", [Pathwise(), AnalyticKL(), LeaveOneOut(elbo, 2)])
def test_a_guide_has_none_under_any_bound(objective, x):
    with pytest.raises(ObjectiveError, match=r"log_prob of guide site 'z' \(Noisy\)"):
        Loss(objective, Program(role="guide"))(x)


REFUSED = {
    "score-iwae", "vimco", "vimco-arithmetic", "renyi", "disarm-iwae", "iwae", "dreg", "tvo", "jackknife", "gdreg",
    "rws-dreg", "rws", "wake-sleep", "thermodynamic", "exact", "prior-sampling", "pyro-renyi", "pyro-rws",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if not name.startswith("biased")])
def test_of_the_catalog_those_on_the_elbo_alone_take_it(name, x):
    make = find("objective", OBJECTIVES, name)
    words = {"data_size": 1} if "data_size" in inspect.signature(make).parameters else {}
    loss = Loss(make(**words), Program())
    if name not in REFUSED:
        return loss(x).backward()
    with pytest.raises(ObjectiveError) as raised:
        loss(x)
    assert ("no discrete latent" if name == "exact" else "is itself a random lower bound") in str(raised.value)


def test_pyros_own_objectives(x):
    with pytest.raises(ObjectiveError, match="under Pyro's RenyiELBO"):
        Loss(PyroObjective(RenyiELBO(num_particles=2, vectorize_particles=True)), Program())(x)


@pytest.mark.parametrize("bound", [renyi(0.5), tvo(3)])
def test_other_bounds_and_wrappers_around_them(bound, x):
    with pytest.raises(ObjectiveError, match="under Pathwise"):
        Loss(Warmup(Beta(Pathwise(bound, 4), 2.0), 5), Program())(x)


def test_an_objective_of_ones_own_is_judged_by_its_target(x):
    class Mine(Objective):
        target = property(lambda self: iwae)

        def estimate(self, pair, *args, **kwargs):
            raise AssertionError("refused before")

    with pytest.raises(ObjectiveError, match="under Mine"):
        Loss(Mine(2), Program())(x)


def test_evaluation_of_log_evidence_refuses_it_and_the_elbo_is_evaluated(x):
    for evaluate in (
        lambda: importance_sampled(Program(), x, ks=(1, 2)),
        lambda: annealed(Program(), x, chains=2, steps=2),
        lambda: weight_health(Program(), [x], draws=30),
        lambda: bidirectional(Program(), x, data=2, chains=2, steps=2),
    ):
        with pytest.raises(ProgramError, match="'z' .Noisy. is itself a random lower bound"):
            evaluate()
    assert rate_distortion(Program(), x, num_particles=2).elbo.shape == (4,)


def test_exact_refuses_it_beside_what_it_sums_out(x):
    class Mixed(Program):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                c = pyro.sample("c", dist.Bernoulli(0.5))
                z = pyro.sample("z", Noisy(self.loc, 1.0))
                pyro.sample("x", dist.Normal(z + c, 1.0), obs=x[:, 0])

    with pytest.raises(ObjectiveError, match="under Exact"):
        Loss(Exact(), Mixed())(x)
