"""Programs with continuous latents under every estimator: data apart, eager = graph = Pyro, gradients of equal mean."""

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO

from pplvm.bounds import elbo, iwae, renyi
from pplvm.graphs.compiled import compiled
from pplvm.objectives.estimate import Estimate
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import (
    DoublyReparameterized,
    DoublyReparameterizedWakeSleep,
    StickTheLanding,
    _path_gradient_weights,
)
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import draw_from_pair, pair_up
from tests.problems import Forced
from tests.programs.continuous import ROWS, B, scattered
from tests.seams.moments import gradient

OBJECTIVES = {
    "pathwise": lambda: Pathwise(elbo, 2),
    "analytic-kl": lambda: AnalyticKL(2),
    "stick-the-landing": lambda: StickTheLanding(2),
    "leave-one-out": lambda: LeaveOneOut(elbo, 2),
    "score-function": lambda: ScoreFunction(elbo, 2),
    "pyro-mean-field": lambda: TraceMeanField_ELBO(num_particles=2, vectorize_particles=True),
    "iwae": lambda: Pathwise(iwae, 3),
    "dreg": lambda: DoublyReparameterized(iwae, 3),
    "gdreg": lambda: GeneralizedDoublyReparameterized(3),
    "vimco": lambda: LeaveOneOut(iwae, 3),
    "pyro-renyi": lambda: PyroObjective(RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True)),
    "renyi": lambda: Pathwise(renyi(0.5), 3),
    "dreg-renyi": lambda: DoublyReparameterized(renyi(0.5), 3),
    "beta": lambda: Beta(AnalyticKL(2), 0.5),
    "wake-sleep": lambda: WakeSleep(2),
    "rws": lambda: ReweightedWakeSleep(3),
    "rws-dreg": lambda: DoublyReparameterizedWakeSleep(3),
}
ALIKE = {
    "pathwise": ("analytic-kl", "stick-the-landing", "leave-one-out"),
    "iwae": ("dreg", "gdreg", "vimco"),
    "renyi": ("dreg-renyi",),
    "rws": ("rws-dreg",),
}
"""Objectives whose gradients have the same mean."""


@pytest.fixture(params=ROWS)
def row(request):
    return ROWS[request.param]


@pytest.fixture
def pair(row):
    program, x = scattered(row.make()), row.data()
    return pair_up(program.model, program.guide, (x,), {}), x


def draws(trace):
    return {
        name: site["value"].detach().clone()
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not name.startswith("batch")
    }


@pytest.mark.parametrize("K", [1, 3])
def test_a_datum_has_its_log_weight_wherever_it_stands_in_the_batch_and_beside_whatever(pair, K):
    pair, x = pair
    drawn = draw_from_pair(pair, K, (x,), {})
    assert drawn.log_weights.shape == (K, B) and drawn.log_weights.isfinite().all()
    values = draws(drawn.guide_trace)
    for chosen in (torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3])):
        of_chosen = {
            name: each.index_select(each.dim() - 1 - drawn.guide_trace.nodes[name]["fn"].event_dim, chosen)
            for name, each in values.items()
        }
        with Forced(of_chosen):
            found = draw_from_pair(pair, K, (x[chosen],), {}).log_weights
        torch.testing.assert_close(found, drawn.log_weights[:, chosen], rtol=1e-8, atol=1e-8)
        assert not torch.allclose(found, drawn.log_weights[:, chosen.flip(0)], rtol=1e-4)


def test_eager_is_the_graph_is_pyro(row):
    program, x = scattered(row.make()), row.data()
    found = []
    by_pyro = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    for loss in (Loss(Pathwise(elbo, 2), program), Loss(by_pyro, program)):
        loss(x)
        torch.manual_seed(5)
        found.append((loss(x), loss))
    step = compiled(Loss(Pathwise(elbo, 2), program), "graph")
    step(x.flip(0))
    torch.manual_seed(5)
    found.append((step(x), step))
    values, gradients = zip(*[(value.detach(), gradient(value, program)) for value, _ in found], strict=True)
    for value, slope in zip(values[1:], gradients[1:], strict=True):
        torch.testing.assert_close(value, values[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(slope, gradients[0], rtol=1e-8, atol=1e-9)


def test_the_divergences_that_are_known_are_found(row):
    program, x = scattered(row.make()), row.data()
    found = closed_forms(draw_particles(program.model, program.guide, x, num_particles=3))
    assert tuple(sorted(found)) == tuple(sorted(row.closed))
    assert all(each.shape[-1] == B and (each >= -1e-9).all() for each in found.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_runs_or_says_why_not(row, name):
    loss, x = Loss(OBJECTIVES[name](), scattered(row.make())), row.data()
    if name in row.refused:
        with pytest.raises(ObjectiveError, match=row.refused[name]):
            loss(x)
        return
    value = loss(x)
    assert value.isfinite() and gradient(value, loss.program).isfinite().all()


GROUPS, ROWS_OF_GROUP, LIMIT = 20, 150, 7.0
"""Means of 150 gradients, and |t| at 38 degrees of freedom: beyond seven once in forty million."""


def group_gradients(objective, program, x):
    """Mean gradients (groups, P) for one datum."""
    loss, x = Loss(objective, program), x.expand(ROWS_OF_GROUP, *x.shape[1:])
    return torch.stack([gradient(loss(x), program) for _ in range(GROUPS)])


def distance(one, other):
    """The largest |t| of the difference of two means of groups (G, P)."""
    error = ((one.var(0) + other.var(0)) / len(one)).sqrt()
    gap = (one.mean(0) - other.mean(0)).abs()
    return float((gap / error.clamp(min=1e-10)).max())


OF_SECONDS = ("conv-vae", "conv-hierarchical-vae", "vae, semi-amortized")
"""Programs whose gradients take long, and with other objectives all of them do."""


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        pytest.param(name, reference, marks=[pytest.mark.slow] if reference != "iwae" or name in OF_SECONDS else [])
        for name in ROWS
        for reference in ALIKE
    ],
)
def test_gradients_of_one_bound_have_one_mean(name, reference):
    row = ROWS[name]
    program, x = scattered(row.make()), row.data()[:1]
    legal = [name for name in (reference, *ALIKE[reference]) if name not in row.refused]
    if len(legal) < 2:
        return
    found = {name: group_gradients(OBJECTIVES[name](), program, x) for name in legal}
    far = {name: distance(found[name], found[legal[0]]) for name in legal[1:]}
    assert all(each < LIMIT for each in far.values()), far


class OneWeight(DoublyReparameterized):
    """DReG whose paths have the weights of iwae in place of their squares."""

    def estimate(self, pair, *args, **kwargs):
        self.order = 1.0
        value = self.bound(draw_from_pair(pair, self.num_particles, args, kwargs).log_weights)
        drawn = _path_gradient_weights(self, pair, args, kwargs)[0]
        return Estimate(value, self.bound(drawn), 1.0)


@pytest.mark.parametrize("row", ["vae", "hierarchical-vae"])
def test_a_wrong_gradient_is_far_away(row):
    row = ROWS[row]
    program, x = scattered(row.make()), row.data()[:1]
    wrong, right = (group_gradients(each, program, x) for each in (OneWeight(iwae, 3), Pathwise(iwae, 3)))
    assert distance(wrong, right) > 2 * LIMIT
