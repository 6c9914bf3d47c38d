"""Site-wise rules on categorical sites: exact where the noise can be integrated out, t-tests where it cannot."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo
from pplvm.objectives.antithetic import ARM, ARMS, DisARM
from pplvm.objectives.biased import BiasedConcrete, BiasedStraightThrough, BiasedStraightThroughGumbel
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.site_draw import SiteDraw
from pplvm.particles.pair import pair_up
from tests.noise import LIMIT, frozen, grouped_gradients, z_scores
from tests.problems import Forced, exact_gradient, exact_moments, per_row_gradients

X = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
STATES = list(itertools.product(range(3), repeat=2))


class TwoDice(nn.Module):
    """Two coordinates of three categories each, one-hot or as indices, and two Gaussian observations."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(8)
        self.kind = kind
        self.prior, self.logits = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(2, 3))
        self.slope, self.effect = nn.Parameter(torch.randn(2, 3)), nn.Parameter(1.5 * torch.randn(2, 3, 2))

    def draw(self, logits):
        family = dist.OneHotCategorical if self.kind == "one-hot" else dist.Categorical
        return pyro.sample("z", family(logits=logits).to_event(1))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = self.draw(self.prior)
            code = z if self.kind == "one-hot" else torch.nn.functional.one_hot(z, 3).to(x)
            both = torch.einsum("...ic,icd->...id", code, self.effect)
            pyro.sample("x", dist.Normal(both.sum(-2) + both.prod(-2), 0.9).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            self.draw(self.logits + self.slope * x.sum(-1)[..., None, None])


NOISELESS = {
    "local": lambda: LocalExpectation(),
    "measure-valued": lambda: MeasureValued(),
    "measure-valued, K=2": lambda: MeasureValued(2),
    "score": lambda: PerSite(),
}
ON_ONE_HOT = {
    "MuProp": lambda: MuProp(),
    "MuProp, simple": lambda: MuProp(linear=False),
    "double": lambda: frozen(DoubleControlVariate(2, -0.7)),
}


@pytest.mark.parametrize(
    "kind, name",
    [("one-hot", n) for n in NOISELESS | ON_ONE_HOT] + [("index", n) for n in NOISELESS],
)
def test_mean_over_draws(kind, name):
    program, objective = TwoDice(kind), (NOISELESS | ON_ONE_HOT)[name]()
    truth, bound = exact_gradient(program, X, elbo, 1)
    mean, variance, value = exact_moments(objective, program, X)
    assert (mean - truth).abs().max() < 1e-10
    assert value == pytest.approx(bound, abs=1e-10) and variance.sum() > 1e-4


def chain(p):
    """Category, noise of each of two yes-or-no links, and probability, all pieces on which nothing changes."""
    rows = []
    for category in range(3):
        pieces = []
        for link, q in enumerate(p):
            if link < category:  # said no: u = (1 - q) v, and the partner says yes where u < q
                ends, chance = [q / (1 - q)], 1 - q
            elif link == category:  # said yes: u = 1 - q v
                ends, chance = [(1 - q) / q], q
            else:  # never asked
                ends, chance = [q, 1 - q], 1.0
            inner = sorted(e for e in ends if e < 1)
            pieces.append([((a + b) / 2, (b - a) * chance) for a, b in itertools.pairwise([0.0, *inner, 1.0])])
        rows += [(category, [v for v, _ in both], both[0][1] * both[1][1]) for both in itertools.product(*pieces)]
    return rows


@pytest.mark.parametrize("kind", ["one-hot", "index"])
def test_disarm_in_a_chain_of_links(kind, monkeypatch):
    """Exactly: draws and noise, both coordinates at once."""
    program = TwoDice(kind)
    pair = pair_up(program.model, program.guide, (X,), {})
    q = pair.run_guide(1, (X,), {}).nodes["z"]["fn"].base_dist.logits.softmax(-1).detach()[0]  # (2, 3)
    sticks = torch.stack([q[:, 0], q[:, 1] / (q[:, 1] + q[:, 2])], -1).tolist()
    rows = list(itertools.product(*[chain(p) for p in sticks]))
    probability = torch.tensor([a[2] * b[2] for a, b in rows])
    z = torch.tensor([[a[0], b[0]] for a, b in rows])
    v = torch.tensor([[a[1], b[1]] for a, b in rows])
    assert float(probability.sum()) == pytest.approx(1)
    monkeypatch.setattr(SiteDraw, "uniform", lambda self, like: v.unsqueeze(0))
    with Forced({"z": z if kind == "index" else torch.nn.functional.one_hot(z, 3).double()}):
        surrogate = DisARM().estimate(pair, X.expand(len(z), -1)).surrogate
    gradients = per_row_gradients(surrogate, list(program.parameters()))
    mean = probability @ gradients
    truth, _ = exact_gradient(program, X, elbo, 1)
    assert (mean - truth).abs().max() < 1e-10
    of_guide = torch.cat([torch.full((p.numel(),), n in ("logits", "slope")) for n, p in program.named_parameters()])
    plain = exact_moments(PerSite(), program, X)[1]
    assert (probability @ gradients.square() - mean.square())[of_guide].sum() < 0.5 * plain[of_guide].sum()


@pytest.mark.parametrize("name", ["REBAR", "RELAX"])
def test_relaxations(name):
    make = {"REBAR": lambda: REBAR(0.6, 0.8), "RELAX": lambda: RELAX(None, 0.6, 0.8)}[name]
    program = TwoDice("one-hot")
    truth, _ = exact_gradient(program, X, elbo, 1)
    assert z_scores(grouped_gradients(frozen(make()), program, X, 40, 400), truth).abs().max() < LIMIT


def test_the_t_test_of_relaxations_has_power(monkeypatch):
    """Noise that moves with the logits as if it were not that of the draw."""
    right = Discrete.noisy_logits
    monkeypatch.setattr(
        Discrete,
        "noisy_logits",
        lambda self, code, u: right(self, code, u).detach() + self.logits - self.logits.detach(),
    )
    program = TwoDice("one-hot")
    truth, _ = exact_gradient(program, X, elbo, 1)
    assert z_scores(grouped_gradients(frozen(REBAR(0.6, 0.8)), program, X, 40, 400), truth).abs().max() > 2 * LIMIT


def test_noise_given_the_draw_leads_to_that_draw():
    """In distribution: noise given draws is fresh noise, in its mean and spread, and its argmax is the draw."""
    torch.manual_seed(0)
    for fn in (
        dist.OneHotCategorical(logits=torch.tensor([0.3, -1.0, 2.0])),
        dist.Bernoulli(logits=torch.tensor([0.8])),
    ):
        family, draws = Discrete(fn), fn.sample((40_000,))
        u, w = torch.rand_like(draws), torch.rand_like(draws)
        z, fresh = family.noisy_logits(draws, u), family.fresh(w)
        found = torch.nn.functional.one_hot(z.argmax(-1), 3).to(z) if len(fn.event_shape) else (z > 0).to(z)
        assert torch.equal(found, draws)
        for power in (1, 2):
            a, b = z**power, fresh**power
            assert ((a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / len(a)).sqrt()).abs().max() < 4.5


@pytest.mark.parametrize(
    "rule",
    [MuProp, REBAR, RELAX, DoubleControlVariate, BiasedStraightThrough, BiasedConcrete, BiasedGumbelRao, BiasedReinMax],
)
def test_an_index_has_nothing_between_its_states(rule):
    with pytest.raises(ObjectiveError, match=r"'z' \(Categorical\).*draw a OneHotCategorical"):
        Loss(rule(), TwoDice("index"))(X)


@pytest.mark.parametrize("rule", [ARM, ARMS])
@pytest.mark.parametrize("kind", ["one-hot", "index"])
def test_yes_is_paired_with_no(rule, kind):
    with pytest.raises(ObjectiveError, match="'z'.*for Bernoulli sites"):
        Loss(rule(), TwoDice(kind))(X)


@pytest.mark.parametrize(
    "rule", [BiasedStraightThrough(), BiasedStraightThroughGumbel(), BiasedConcrete(0.5), BiasedGumbelRao()]
)
def test_biased_rules_are_biased_and_report_the_bound_of_hard_draws(rule):
    program = TwoDice("one-hot")
    truth, bound = exact_gradient(program, X, elbo, 1)
    found = grouped_gradients(rule, program, X, 20, 400)
    assert z_scores(found, truth).abs().max() > LIMIT
    pair = pair_up(program.model, program.guide, (X,), {})
    values = rule.estimate(pair, X.expand(4000, -1)).value
    assert abs(float(values.mean()) - bound) < 4.5 * float(values.std()) / 4000**0.5
