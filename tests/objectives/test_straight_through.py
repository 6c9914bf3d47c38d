"""A guide of torch's straight-through draws under every objective: the enumerated gradient, or a refusal, or biased."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from torch import nn

import pplvm
from pplvm.bounds import elbo, iwae
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.particles.pair import pair_up
from tests.problems import exact_gradient, per_row_gradients, sampled_gradients, states_of

DATUM = torch.tensor([[0.7]])


class Scripted(dist.OneHotCategoricalStraightThrough):
    """Torch's distribution, whose next draws can be told, by the number of states; they carry torch's gradient."""

    script: dict[int, torch.Tensor] = {}

    def sample(self, sample_shape=()):
        told = self.script.get(self.event_shape[0])
        return super().sample(torch.Size(sample_shape)) if told is None else told


def exact_mean(objective, program):
    """The mean gradient over every draw of both sites, each on the path that its distribution gives it."""
    pair = pair_up(program.model, program.guide, (DATUM,), {})
    values, _, log_q = states_of(pair, DATUM)
    K = objective.num_particles
    tuples = torch.tensor(list(itertools.product(range(len(log_q)), repeat=K))).T  # (K, T)
    probability = log_q[:, 0].detach()[tuples].sum(0).exp()
    try:
        Scripted.script = {v.shape[-1]: v[tuples] if K > 1 else v[tuples[0]] for v in values.values()}
        surrogate = objective.estimate(pair, DATUM.expand(tuples.shape[1], -1)).surrogate
    finally:
        Scripted.script = {}
    return per_row_gradients((probability @ surrogate).reshape(1), list(program.parameters()))[0]


class Choice(nn.Module):
    """z one of three, y one of two given z, x ~ N(a nonlinear function, 1); draws with torch's gradient or without."""

    def __init__(self, fn=Scripted, only=("z", "y")) -> None:
        super().__init__()
        self.fn, self.only = fn, only
        self.a, self.b = (
            nn.Parameter(torch.tensor([0.3, -0.2, 0.5])),
            nn.Parameter(torch.tensor([[0.4], [-1.0], [0.8]])),
        )
        self.c = nn.Parameter(torch.tensor([1.5, -0.7, 0.4]))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(logits=torch.zeros(len(x), 3)))
            y = pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(len(x), 2)))
            mean = ((z * self.c).sum(-1) + 2 * y[..., 0]) ** 2
            pyro.sample("x", dist.Normal(mean.unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x):
        fns = {name: self.fn if name in self.only else dist.OneHotCategorical for name in ("z", "y")}
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", fns["z"](logits=x * self.a))
            logit = z @ self.b
            pyro.sample("y", fns["y"](logits=torch.cat([logit, -logit], -1)))


@pytest.mark.parametrize("name", ["ScoreFunction", "LeaveOneOut", "LocalExpectation", "PerSite", "DisARM", "vimco"])
def test_the_gradient_is_the_enumerated_one(name):
    """Where a rule draws once, the mean over every draw is exact, so that any path left beside the score shows."""
    bound, K = (iwae, 2) if name == "vimco" else (elbo, 2 if name in ("LeaveOneOut", "PerSite") else 1)
    make = {
        "ScoreFunction": lambda: pplvm.ScoreFunction(elbo),
        "LeaveOneOut": lambda: pplvm.LeaveOneOut(elbo, 2),
        "vimco": lambda: pplvm.LeaveOneOut(iwae, 2),
        "LocalExpectation": pplvm.LocalExpectation,
        "PerSite": lambda: pplvm.PerSite(num_particles=2),
        "DisARM": pplvm.DisARM,
    }[name]
    program = Choice()
    truth, _ = exact_gradient(program, DATUM, bound, K)
    if name in ("LocalExpectation", "DisARM"):
        found = sampled_gradients(make(), program, DATUM, 4_000)
        error = found.std(0) / len(found) ** 0.5 + 1e-9
        assert ((found.mean(0) - truth) / error).abs().max() < 4.5
    else:
        assert (exact_mean(make(), program) - truth).abs().max() < 1e-12
    assert truth.abs().min() > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        pplvm.Pathwise,
        lambda: pplvm.Pathwise(iwae, 3),
        pplvm.AnalyticKL,
        pplvm.StickTheLanding,
        pplvm.DoublyReparameterized,
        pplvm.DoublyReparameterizedWakeSleep,
    ],
)
def test_what_needs_a_path_refuses(make):
    with pytest.raises(ObjectiveError, match="guide site 'z'.* has none.*LeaveOneOut"):
        Loss(make(), Choice())(DATUM)


@pytest.mark.parametrize("make", [TraceGraph_ELBO, lambda: RenyiELBO(alpha=0.0, num_particles=2)])
def test_pyros_own_are_refused_too(make):
    with pytest.raises(ObjectiveError, match="straight-through gradient of discrete guide site 'z'"):
        Loss(PyroObjective(make()), Choice())(DATUM)


@pytest.mark.parametrize("kind", [Trace_ELBO, TraceEnum_ELBO])
def test_pyros_own_that_need_no_adapter_are_refused_too(kind):
    with pytest.raises(ObjectiveError, match=f"{kind.__name__} takes the straight-through gradient.*'z'"):
        Loss(kind(), Choice())(DATUM)
    assert Loss(Trace_ELBO(), Choice(dist.OneHotCategorical))(DATUM).isfinite()


def test_who_wants_the_straight_through_gradient_gets_it_under_a_name_that_says_biased():
    """The mean of d log w along torch's gradient, z + p - stop(p), by hand; far from the true gradient."""
    program = Choice()
    found = exact_mean(pplvm.BiasedPathwise(), program)
    truth, _ = exact_gradient(program, DATUM, elbo, 1)
    x, total = DATUM[0, 0], 0.0
    log_pz = (x * program.a).log_softmax(0)
    for i in range(3):
        z = torch.eye(3)[i] + log_pz.exp() - log_pz.exp().detach()
        logit = z @ program.b
        log_py = torch.cat([logit, -logit]).log_softmax(0)
        for j in range(2):
            y = torch.eye(2)[j] + log_py.exp() - log_py.exp().detach()
            mean = ((z * program.c).sum() + 2 * y[0]) ** 2
            log_w = dist.Normal(mean, 1.0).log_prob(x) - log_pz[i] - log_py[j]
            total = total + (log_pz[i] + log_py[j]).exp().detach() * log_w
    by_hand = torch.cat([g.flatten() for g in torch.autograd.grad(total, list(program.parameters()))])
    assert (found - by_hand).abs().max() < 1e-12 and (by_hand - truth).abs().max() > 0.1


def test_biased_pathwise_refuses_guides_without_a_straight_through_draw():
    with pytest.raises(ObjectiveError, match="of which the guide draws none: use Pathwise"):
        Loss(pplvm.BiasedPathwise(), Choice(dist.OneHotCategorical))(DATUM)
    with pytest.raises(ObjectiveError, match="guide site 'y'.* has none"):
        Loss(pplvm.BiasedPathwise(), Choice(only=("z",)))(DATUM)
