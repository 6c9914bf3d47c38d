"""A guide on a part of the model's support: which parts are, what the value then means, and who refuses it."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer import ReweightedWakeSleep as PyrosReweightedWakeSleep
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.information_bounds import barber_agakov
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.control_variates import MuProp
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.contract import ProgramError
from pplvm.particles.pair import draw_from_pair, pair_up
from pplvm.particles.supports import contains
from tests.problems import exact_gradient

UNIT, POSITIVE, REAL = constraints.unit_interval, constraints.positive, constraints.real
STACKED = constraints.stack([REAL, POSITIVE])
WITHIN = {
    "itself": (REAL, REAL),
    "positive in real": (REAL, POSITIVE),
    "interval in real": (REAL, UNIT),
    "interval in positive": (POSITIVE, UNIT),
    "half-open in closed": (UNIT, constraints.half_open_interval(0.0, 1.0)),
    "open and closed ends": (POSITIVE, constraints.nonnegative),
    "negative in real": (REAL, constraints.less_than(0.0)),
    "by coordinate": (constraints.interval(torch.zeros(2), torch.tensor([1.0, 3.0])), constraints.interval(0.5, 1.0)),
    "bounds of other shapes": (
        constraints.interval(torch.zeros(3), torch.ones(3)),
        constraints.interval(0.2, torch.ones(2)),
    ),
    "vectors": (constraints.real_vector, constraints.independent(POSITIVE, 1)),
    "boolean in counts": (constraints.nonnegative_integer, constraints.boolean),
    "range in range": (constraints.integer_interval(0, 4), constraints.integer_interval(1, 3)),
    "counts in integers": (constraints.integer, constraints.nonnegative_integer),
    "simplex": (constraints.simplex, constraints.simplex),
    "sphere": (constraints.sphere, constraints.sphere),
    "stack in stack": (STACKED, constraints.stack([POSITIVE, UNIT])),
    "stack in one": (REAL, STACKED),
    "one in stack": (STACKED, UNIT),
}
NOT_WITHIN = {
    "real in positive": (POSITIVE, REAL),
    "wider": (UNIT, constraints.interval(0.0, 2.0)),
    "disjoint": (constraints.less_than(0.0), constraints.greater_than(1.0)),
    "one coordinate wider": (constraints.interval(0.0, torch.tensor([1.0, 3.0])), constraints.interval(0.0, 2.0)),
    "boolean in real": (REAL, constraints.boolean),
    "interval in boolean": (constraints.boolean, UNIT),
    "counts in boolean": (constraints.boolean, constraints.nonnegative_integer),
    "simplex in interval": (constraints.independent(UNIT, 1), constraints.simplex),
    "sphere in real": (constraints.real_vector, constraints.sphere),
    "real in simplex": (constraints.simplex, constraints.real_vector),
    "totals that differ": (constraints.multinomial(4), constraints.multinomial(3)),
    "stack, one part wider": (constraints.stack([POSITIVE, UNIT]), STACKED),
    "one in stack, wider": (STACKED, REAL),
}


@pytest.mark.parametrize("case", WITHIN)
def test_within(case):
    assert contains(*WITHIN[case])


@pytest.mark.parametrize("case", NOT_WITHIN)
def test_not_within(case):
    assert not contains(*NOT_WITHIN[case])


class Pair(nn.Module):
    """One latent on the support that a prior has, x | z ~ N(z, 1), and a guide on a part of it."""

    def __init__(self, prior, guide):
        super().__init__()
        self.prior, self.of_guide, self.parameter = prior, guide, nn.Parameter(torch.tensor(0.3))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.prior)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.of_guide(self.parameter))


def positive() -> Pair:
    return Pair(dist.Normal(0.0, 1.0), lambda p: dist.HalfNormal(p.exp()))


def few_categories() -> Pair:
    return Pair(
        dist.Categorical(torch.tensor([0.1, 0.2, 0.3, 0.4])), lambda p: dist.Categorical(logits=torch.stack([p, -p]))
    )


def yes_or_no() -> Pair:
    return Pair(dist.Poisson(0.7), lambda p: dist.Bernoulli(logits=p))


def test_many_particles_tend_to_log_p_of_the_part():
    """log p(x, z > 0) in closed form, below log p(x): z, x ~ N(0, 1) N(z, 1) has the posterior N(x / 2, 1/2)."""
    x = torch.tensor([0.4])
    part = dist.Normal(0.0, math.sqrt(2)).log_prob(x) + dist.Normal(0.0, 1.0).cdf(x / 2 / math.sqrt(0.5)).log()
    torch.manual_seed(0)
    with torch.no_grad():
        values = torch.stack([-Loss(Pathwise(iwae, 4000), positive())(x) for _ in range(20)])
        low = -Loss(Pathwise(elbo, 4000), positive())(x)
    error = values.std() / 20**0.5
    assert (values.mean() - part).abs() < 4 * error and low < part and part < dist.Normal(0.0, math.sqrt(2)).log_prob(x)
    assert (dist.Normal(0.0, math.sqrt(2)).log_prob(x) - values.mean()) > 10 * error


@pytest.mark.parametrize("make", [few_categories, yes_or_no])
@pytest.mark.parametrize("objective", [lambda: LocalExpectation(), lambda: DisARM(), lambda: DisARM(iwae, 2)])
def test_gradients_of_discrete_latents_on_a_part(make, objective):
    """By summing over the guide's states."""
    program, rule, x = make(), objective(), torch.tensor([0.8])
    torch.manual_seed(0)
    exact, _ = exact_gradient(program, x, rule.bound, rule.num_particles)
    loss = Loss(rule, program)
    found = torch.stack([torch.autograd.grad(-loss(x.expand(400)), program.parameter)[0] for _ in range(25)])
    assert (found.mean() - exact[0]).abs() < 4.5 * found.std() / 5 + 1e-9


def test_a_divergence_that_is_known_on_a_part_is_taken():
    """KL(Bernoulli || Poisson) = sum_z q(z) (log q(z) - log p(z))."""
    program, x = yes_or_no(), torch.tensor([0.8, -0.2])
    q = dist.Bernoulli(logits=program.parameter.detach())
    states = torch.tensor([0.0, 1.0])
    log_q = q.log_prob(states)
    rate = (log_q.exp() * (log_q - dist.Poisson(0.7).log_prob(states))).sum()
    pair = pair_up(program.model, program.guide, (x,), {})
    drawn = draw_from_pair(pair, 3, (x,), {})
    torch.testing.assert_close(closed_forms(drawn)["z"].flatten()[:1], rate[None])


@pytest.mark.parametrize("make", [positive, few_categories])
def test_a_divergence_in_closed_form_is_of_one_support(make):
    """Torch knows none, or of as many categories alone; the drawn term serves."""
    program, x = make(), torch.tensor([0.8, -0.2])
    for parameter in program.parameters():
        parameter.requires_grad_(make is positive)  # a discrete draw has no path
    for seed in range(3):
        torch.manual_seed(seed)
        drawn = Loss(Pathwise(), program)(x)
        torch.manual_seed(seed)
        assert torch.equal(drawn, Loss(AnalyticKL(), program)(x)) and drawn.isfinite()


def test_a_rule_that_needs_values_between_the_states_tells_where_the_model_has_none():
    with pytest.raises(ObjectiveError, match="site 'z': Poisson has no values between its states.*DisARM"):
        Loss(MuProp(), yes_or_no())(torch.randn(3))


def test_doubly_reparameterized_on_a_part():
    """The same gradient as along the path, by many draws."""
    program, x = positive(), torch.tensor([0.8]).expand(2000)
    torch.manual_seed(0)
    rows = []
    for make in (Pathwise, DoublyReparameterized):
        loss = Loss(make(iwae, 4), program)
        rows.append(torch.stack([torch.autograd.grad(loss(x), program.parameter)[0] for _ in range(10)]))
    apart = (rows[0].mean() - rows[1].mean()).abs()
    assert apart < 4 * ((rows[0].var() + rows[1].var()) / 10).sqrt()


def test_what_dreams_is_refused():
    program, x = positive(), torch.randn(3)
    words = r"'z' is drawn on GreaterThanEq\(lower_bound=0.0\), a part of the model's Real\(\)"
    for make in (WakeSleep, lambda: ReweightedWakeSleep(2, insomnia=0.5)):
        with pytest.raises(ObjectiveError, match=words + ".*no density.*insomnia=1"):
            Loss(make(), program)(x)
    with pytest.raises(ObjectiveError, match=words):
        theirs = PyrosReweightedWakeSleep(2, insomnia=0.5, model_has_params=False, vectorize_particles=True)
        Loss(PyroObjective(theirs), program)(x[:1])
    with pytest.raises(ValueError, match=words):
        barber_agakov(program, x, draws=4)
    assert Loss(ReweightedWakeSleep(2), program)(x).isfinite()


def test_chains_from_a_guide_on_a_part_never_reach_the_rest():
    with pytest.raises(ProgramError, match="never leave: use start='prior'"):
        annealed(positive(), torch.randn(1), chains=2, steps=3)
    annealed(positive(), torch.randn(1), chains=2, steps=3, start="prior")
