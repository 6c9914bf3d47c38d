"""Penalties: the closed form of their gradient, the plain bound in every report, and what is refused."""

import pickle
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO

from pplvm.bounds import elbo, iwae
from pplvm.estimators.references.target import target_label, target_of
from pplvm.graphs.compiled import compiled
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.biased import BiasedPathwise, BiasedStraightThrough
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.exact import Exact, PriorSampling
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, DoublyReparameterizedWakeSleep, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.objectives.test_contract import EVERY, NoHostRead, objective_and_program
from tests.problems import (
    LinearGaussian,
    exact_moments,
    linear_gaussian,
    per_row_gradients,
    quadrature_mean,
    two_data,
)


class PenalizedGaussian(LinearGaussian):
    """With two penalties: one of what the encoder gives, (B,), and one of the draw, (K, B)."""

    def guide(self, x):
        loc = self.encoder(x)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(loc, self.log_scale.exp()).to_event(1))
            pyro.deterministic("size", loc.square().sum(-1))
            pyro.deterministic("energy", z.square().sum(-1))


class PenalizedNet(SigmoidBeliefNet):
    """A penalty of the guide's probabilities, and one of what it draws."""

    def guide(self, x):
        logits = self.encoders[0](x)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z_1", dist.Bernoulli(logits=logits).to_event(1))
            pyro.deterministic("sparsity", logits.sigmoid().sum(-1))
            pyro.deterministic("count", z.sum(-1))


def gaussian() -> PenalizedGaussian:
    plain = linear_gaussian()
    found = PenalizedGaussian(plain.weight.detach(), plain.bias.detach(), plain.s)
    with torch.no_grad():
        found.log_scale.copy_(torch.tensor([-0.5, 0.3]))
    return found


def net() -> PenalizedNet:
    torch.manual_seed(0)
    return PenalizedNet(3, (2,))


WEIGHTS = {"size": 0.7, "energy": -1.3}
ON_A_PATH = {
    "pathwise": lambda: Pathwise(),
    "pathwise, iwae": lambda: Pathwise(iwae, 2),
    "analytic": lambda: AnalyticKL(),
    "STL": lambda: StickTheLanding(),
    "DReG": lambda: DoublyReparameterized(iwae, 2),
    "DReG RWS": lambda: DoublyReparameterizedWakeSleep(2),
    "GDReG": lambda: GeneralizedDoublyReparameterized(2),
    "RLOO": lambda: LeaveOneOut(elbo, 2),
    "inside beta": lambda: Beta(Pathwise(), 2.0),
}
DISCRETE = {
    "score": lambda: ScoreFunction(elbo, 1),
    "VIMCO": lambda: LeaveOneOut(iwae, 2),
    "local": lambda: LocalExpectation(),
    "straight-through": lambda: BiasedStraightThrough(),
}
DRAWN_OTHERWISE = {
    "DisARM": lambda: DisARM(iwae, 2),
    "REBAR": lambda: REBAR(),
    "wake-sleep": lambda: WakeSleep(2),
    "RWS": lambda: ReweightedWakeSleep(2, insomnia=0.5),
    "thermodynamic": lambda: Thermodynamic(num_particles=3),
}


def energy_mean(program, x):
    """E ||z||^2 and ||loc||^2 of one datum."""
    loc = program.encoder(x).square().sum()
    return loc + (2 * program.log_scale).exp().sum(), loc


def gradient(value, program):
    return per_row_gradients(value.reshape(1), list(program.parameters()))[0]


@pytest.mark.parametrize("name", ON_A_PATH)
def test_the_gradient_is_that_of_the_expected_penalty(name):
    """By quadrature, which is exact for these polynomials: penalized minus plain is the closed form."""
    program, x = gaussian(), torch.tensor([[0.3, -1.0, 0.7]])

    def paths(noise):
        return {"z": program.encoder(x) + program.log_scale.exp() * noise}

    plain, penalized = (
        quadrature_mean(objective, program, x, paths, nodes=4, dims=2)
        for objective in (ON_A_PATH[name](), Penalized(ON_A_PATH[name](), WEIGHTS))
    )
    energy, size = energy_mean(program, x)
    closed = gradient(-(WEIGHTS["size"] * size + WEIGHTS["energy"] * energy), program)
    assert (penalized - plain - closed).abs().max() < 1e-9
    assert closed.abs().max() > 0.1


class Summed(Penalized):
    """The mutant: the sum over particles in place of their mean."""

    def _values(self, *args):
        return {name: self.num_particles * value for name, value in super()._values(*args).items()}


def test_a_wrong_penalty_fails():
    program, x = gaussian(), torch.tensor([[0.3, -1.0, 0.7]])

    def paths(noise):
        return {"z": program.encoder(x) + program.log_scale.exp() * noise}

    right, wrong = (
        quadrature_mean(kind(Pathwise(iwae, 2), WEIGHTS), program, x, paths, nodes=4, dims=2)
        for kind in (Penalized, Summed)
    )
    assert (right - wrong).abs().max() > 0.1


@pytest.mark.parametrize("name", DISCRETE)
def test_of_what_a_guide_draws_by_the_gradient_is_exact(name):
    """Over every draw of a belief net: the mean moves by the closed form, and the value does not move at all."""
    program, x = net(), two_data()[:1]
    plain, _, value = exact_moments(DISCRETE[name](), program, x)
    penalized, _, same = exact_moments(Penalized(DISCRETE[name](), {"sparsity": 0.4}), program, x)
    closed = gradient(-0.4 * program.encoders[0](x).sigmoid().sum(), program)
    assert (penalized - plain - closed).abs().max() < 1e-10
    assert value == same


WRAPPED = {
    "alone": lambda o, w: Penalized(o, w),
    "in Beta": lambda o, w: Beta(Penalized(o, w), 0.5),
    "around FreeBits": lambda o, w: Penalized(FreeBits(o, 0.1), w),
    "in Warmup": lambda o, w: Warmup(Penalized(Beta(o, 2.0), w), 10),
    "in another": lambda o, w: Penalized(Penalized(o, {"size": 0.0}), w),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", ["pathwise", "analytic", "STL"])
def test_no_value_ever_holds_a_penalty(name, wrapped):
    program, x = gaussian(), torch.randn(4, 3)
    plain = Loss(WRAPPED[wrapped](ON_A_PATH[name](), {"energy": 0.0}), program)
    loss = Loss(WRAPPED[wrapped](ON_A_PATH[name](), {"energy": 1e3}), program)
    values = []
    for each in (Loss(ON_A_PATH[name](), program), plain, loss):
        torch.manual_seed(3)
        values.append(each(x).detach())
    assert len({float(value) for value in values}) == 1
    assert loss.objective.loss(program.model, program.guide, x) < 1e3
    svi = SVI(program.model, program.guide, pyro.optim.SGD({"lr": 0.0}), loss.objective)
    torch.manual_seed(3)
    assert svi.step(x) / 4 == pytest.approx(float(values[0]), rel=1e-12)
    pyro.clear_param_store()


@pytest.mark.parametrize("name", DRAWN_OTHERWISE)
def test_whatever_the_rule_a_penalty_of_the_data_is_the_same(name):
    program, x = net(), two_data()
    found = []
    for weight in (0.0, 2.0):
        loss = Loss(Penalized(DRAWN_OTHERWISE[name](), {"sparsity": weight}), program)
        torch.manual_seed(5)
        found.append(gradient(loss(x), program))
    closed = gradient(2 * program.encoders[0](x).sigmoid().sum() / 2, program)
    assert (found[1] - found[0] - closed).abs().max() < 1e-12


def test_a_mean_over_data_whatever_the_batch():
    program, x = gaussian(), torch.randn(2, 3)
    found = []
    for data in (x, x.repeat(3, 1)):
        torch.manual_seed(0)
        plain = gradient(Loss(Pathwise(), program)(data), program)
        torch.manual_seed(0)
        found.append(gradient(Loss(Penalized(Pathwise(), {"size": 1.5}), program)(data), program) - plain)
    closed = gradient(1.5 * program.encoder(x).square().sum(-1).mean(), program)
    assert all(torch.allclose(each, closed) for each in found)


def test_reported_is_the_unweighted_mean_of_the_last_training_batch():
    program, x = gaussian(), torch.randn(4, 3)
    loss = Loss(Warmup(Penalized(Pathwise(), {"size": 3.0}), 10), program)
    assert loss.reported()["size"].isnan()
    loss(x)
    size = program.encoder(x).square().sum(-1).mean()
    assert torch.allclose(loss.reported()["size"], size) and not loss.reported()["size"].requires_grad
    before = loss.reported()
    with torch.no_grad():
        loss(x + 1)
    loss.eval()(x + 1)
    assert loss.reported() == before
    loss.train()(x + 1)
    assert loss.reported() != before
    again = Loss(Warmup(Penalized(Pathwise(), {"size": 3.0}), 10), program)
    again.load_state_dict(loss.state_dict())
    assert again.reported() == loss.reported() and Loss(Trace_ELBO(), program).reported() == {}
    assert pickle.loads(pickle.dumps(loss)).reported() == loss.reported()


def test_as_a_graph():
    program, x = gaussian(), torch.randn(4, 3)
    losses = [Loss(Penalized(Pathwise(iwae, 3), WEIGHTS), program) for _ in range(2)]
    graph = compiled(losses[1], "graph")
    for seed in (0, 1):
        found = []
        for run in (losses[0], graph):
            torch.manual_seed(seed)
            value = run(x + seed)
            program.zero_grad()
            value.backward()
            found.append((value.detach(), torch.cat([p.grad.flatten() for p in program.parameters()])))
        assert torch.allclose(found[0][0], found[1][0]) and torch.allclose(found[0][1], found[1][1])
        eager, traced = (each.reported() for each in losses)
        assert all(torch.allclose(eager[name], traced[name]) for name in WEIGHTS)
    assert graph.tier_now == "graph"


def test_no_host_read():
    loss, x = Loss(Penalized(LeaveOneOut(elbo, 2), {"sparsity": 1.0}), net()), two_data()
    loss(x)
    with NoHostRead():
        loss(x).backward()


@pytest.mark.parametrize(
    "make, weights, words",
    [
        (Pathwise, {"sise": 1.0}, "names 'sise'.*'size', 'energy'"),
        (Pathwise, {"size": float("nan")}, "'size' must be a finite number, got nan"),
        (Pathwise, {"size": "1"}, "finite number"),
        (Pathwise, {}, "name at least one"),
        (Trace_ELBO, {"size": 1.0}, "Trace_ELBO of Pyro shows none"),
        (lambda: PyroObjective(RenyiELBO(0.0, 2)), {"size": 1.0}, "PyroObjective of Pyro shows none"),
        (PriorSampling, {"size": 1.0}, "which PriorSampling never runs"),
        (WakeSleep, {"energy": 1.0}, r"'energy' depends on the draw of guide site 'z' \(Normal\).*WakeSleep"),
        (MeasureValued, {"energy": 1.0}, "'energy' depends on the draw.*MeasureValued"),
    ],
)
def test_refusals(make, weights, words):
    with pytest.raises(ObjectiveError, match=words):
        Loss(Penalized(make(), weights), gaussian())(torch.randn(4, 3))


def test_penalties_without_weights_are_refused():
    with pytest.raises(ObjectiveError, match="as in Penalized"):
        Penalized(Pathwise(), ["count"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DISCRETE | DRAWN_OTHERWISE)
def test_a_penalty_of_a_discrete_draw_is_refused(name):
    loss = Loss(Penalized((DISCRETE | DRAWN_OTHERWISE)[name](), {"sparsity": 1.0, "count": 1.0}), net())
    with pytest.raises(ObjectiveError, match=r"'count' depends on the draw of guide site 'z_1' \(Bernoulli\)"):
        loss(two_data())
    with torch.no_grad():
        loss(two_data())
    Loss(Penalized(DISCRETE["score"](), {"count": 0.0}), net())(two_data())  # which only tells it


def test_a_program_whose_guide_is_not_run_is_refused():
    with pytest.raises(ObjectiveError, match="Exact does not run this program's"):
        Loss(Penalized(Exact(), {"count": 1.0}), net())(two_data())


@pytest.mark.parametrize(
    "value", [lambda x: x.sum(), lambda x: x, lambda x: x.sum(-1, keepdim=True), lambda x: x.sum(-1).long()]
)
def test_one_value_a_datum(value):
    class Misshapen(LinearGaussian):
        def guide(self, x):
            super().guide(x)
            pyro.deterministic("size", value(x))

    program = Misshapen(torch.randn(3, 2), torch.zeros(3), 1.0)
    with pytest.raises(ObjectiveError, match=r"penalty 'size' .*one value a datum, \(4,\)"):
        Loss(Penalized(Pathwise(elbo, 2), {"size": 1.0}), program)(torch.randn(4, 3))


def test_in_a_nested_plate_the_particles_stand_left_of_it():
    class Nested(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.tensor([0.5, -1.0]))

        def model(self, x):
            with pyro.plate("batch", len(x), dim=-1), pyro.plate("parts", 2, dim=-2):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x.T)

        def guide(self, x):
            with pyro.plate("batch", len(x), dim=-1):
                with pyro.plate("parts", 2, dim=-2):
                    z = pyro.sample("z", dist.Normal(self.loc[:, None], 1.0))
                pyro.deterministic("linear", z.sum(-2, keepdim=True))

    program, x = Nested(), torch.randn(3, 2)
    for K in (1, 4):
        torch.manual_seed(0)
        plain = gradient(Loss(Pathwise(elbo, K), program)(x), program)
        torch.manual_seed(0)
        found = gradient(Loss(Penalized(Pathwise(elbo, K), {"linear": 2.0}), program)(x), program)
        assert torch.allclose(found - plain, torch.tensor([2.0, 2.0]))


def test_straight_through_draws_keep_the_gradient_that_they_carry():
    class Code(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.1]))

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.OneHotCategorical(logits=torch.zeros(3)))
                pyro.sample("x", dist.Normal(z @ torch.arange(3.0), 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.OneHotCategoricalStraightThrough(logits=self.logits))
                pyro.deterministic("first", z[..., 0])

    program, x = Code(), torch.zeros(5)
    found = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        found.append(gradient(Loss(Penalized(BiasedPathwise(), {"first": weight}), program)(x), program))
    closed = gradient(program.logits.softmax(0)[0], program)
    assert torch.allclose(found[1] - found[0], closed)


def test_targets_tell_weights_particles_and_wrappers():
    both = "elbo, beta 0.5, size times 1"  # in whatever order they are wrapped
    told = [
        ("elbo, size times 1", Penalized(Pathwise(), {"size": 1.0})),
        ("elbo, size times 2", Penalized(Pathwise(), {"size": 2.0})),
        ("iwae, size times 1, K=3", Penalized(Pathwise(iwae, 3), {"size": 1.0})),
        (both, Beta(Penalized(Pathwise(), {"size": 1.0}), 0.5)),
        (both, Penalized(Beta(Pathwise(), 0.5), {"size": 1.0})),
    ]
    assert [target_label(*target_of(Loss(each, gaussian()))) for _, each in told] == [name for name, _ in told]


def test_a_control_variate_within_still_learns():
    objective = Penalized(ScoreFunction(elbo, 1, MovingAverage()), {"sparsity": 1.0})
    loss = Loss(objective, net())
    loss(two_data())
    assert float(loss.control.inner.weight) == 1 and loss.parts(two_data())["control"] == []


@pytest.mark.parametrize("kind, name", EVERY)
def test_every_objective_tells_the_run_that_makes_its_bound_once(kind, name):
    """On which penalties and the size of a subsampled set rest."""
    objective, program = objective_and_program(kind, name)
    x = (torch.rand(3, 8) < 0.4).double()
    pair = replace(objective._checked(program.model, program.guide, (x,), {}), runs=[])
    objective.estimate(pair, x)
    ((model_trace, guide_trace),) = pair.runs
    assert "x" in model_trace.nodes and (guide_trace is None) == (name in ("exact", "prior", "prior on a path"))
