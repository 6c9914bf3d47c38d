"""Penalised objectives are held against the gradient of bound and penalty together."""

import pyro
import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references import reference
from pplvm.estimators.references.penalties import expected_penalty
from pplvm.estimators.references.reference import reference_draws
from pplvm.estimators.references.target import PenalizedTarget, target_of
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.tempered import Beta, FreeBits
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from tests.estimators.conditioned import CLASSES, Labelled, SemiSupervised, data
from tests.estimators.finished import finished
from tests.problems import LinearGaussian

WEIGHTS = {"size": 0.7, "pull": 0.4}


class WithPenalties(Labelled):
    """The guide's logits are kept small, and held to what the model thinks, which does not move."""

    def guide(self, x, y):
        super().guide(x, y)
        for name, value in self.penalties(x, y).items():
            pyro.deterministic(name, value)

    def penalties(self, x, y):
        logits = x @ self.up + self.lift[y]
        return {"size": logits.square().sum(1), "pull": (logits - self.prior[y].detach()).square().sum(1)}


class Doubled(Penalized):
    """Takes every penalty twice, and names the weights that it was given."""

    def estimate(self, pair, *args, **kwargs):
        self.penalties = {name: 2 * weight for name, weight in self.penalties.items()}
        try:
            return super().estimate(pair, *args, **kwargs)
        finally:
            self.penalties = {name: weight / 2 for name, weight in self.penalties.items()}


def referred(program, batch, target, draws=3):
    parameters = Parameters.of(program, batch)
    return finished(
        reference_draws(program, parameters, batch, {target}, draws, lambda gradient: gradient[:3], pytest.fail)
    )[target]


def by_hand(program, batch):
    penalties = program.penalties(*batch)
    value = -program.elbo(*batch) + sum(weight * penalties[name] for name, weight in WEIGHTS.items())
    return torch.cat([g.flatten() for g in torch.autograd.grad(value.mean(), list(program.parameters()))])


def test_a_target_is_the_objectives_with_its_penalties():
    program = WithPenalties()
    rloo = LeaveOneOut(elbo, 2)
    expected = PenalizedTarget(elbo, tuple(WEIGHTS.items()))
    assert target_of(Loss(Penalized(rloo, WEIGHTS), program)) == (expected, 1)
    assert target_of(Loss(Penalized(Penalized(rloo, {"pull": 0.4}), {"size": 0.7}), program)) == (expected, 1)
    assert target_of(Loss(Penalized(LeaveOneOut(iwae, 3), WEIGHTS), program))[1] == 3


@pytest.mark.parametrize("own", [{}, {"z": 0.3}])
def test_a_penalty_within_a_tempered_objective_is_the_same_target_as_one_around_it(own):
    program = WithPenalties()
    rloo = LeaveOneOut(elbo, 2)
    within, around = Beta(Penalized(rloo, WEIGHTS), own or 0.5), Penalized(Beta(rloo, own or 0.5), WEIGHTS)
    target = target_of(Loss(within, program))
    assert target == target_of(Loss(around, program)) and isinstance(target[0], PenalizedTarget)
    assert within.inner.penalties == WEIGHTS  # the objective itself stays as it is
    torch.manual_seed(3)
    one = Loss(within, program)(*data())
    torch.manual_seed(3)
    other = Loss(around, program)(*data())
    gradients = [torch.autograd.grad(value, list(program.parameters())) for value in (one, other)]
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_the_reference_is_exact_from_tables_and_within_its_error_from_draws(monkeypatch):
    program, batch = WithPenalties(), data()
    target = target_of(Loss(Penalized(LeaveOneOut(elbo, 2), WEIGHTS), program))
    exact = referred(program, batch, target)
    assert exact.label == "exact" and torch.allclose(exact.gradient, by_hand(program, batch), rtol=1e-10, atol=1e-12)
    plain = referred(program, batch, (elbo, 1)).gradient
    many = referred(program, batch, (PenalizedTarget(iwae, target[0].penalties), 2))
    assert many.label.endswith("draws from tables")
    gap = exact.gradient - plain - (many.gradient - referred(program, batch, (iwae, 2)).gradient)
    assert (gap.abs() < 6 * many.error.sqrt() + 1e-9).all() and (exact.gradient - plain).norm() > 0.5
    monkeypatch.setattr(reference, "MOST_STATES", 1)
    drawn = referred(program, batch, target, 100)
    assert drawn.label == "Penalized, 100 draws"
    assert ((drawn.gradient - exact.gradient) / drawn.error.sqrt().clamp(min=1e-9)).abs().max() < 4.5


class Far(LinearGaussian):
    def guide(self, x):
        super().guide(x)
        pyro.deterministic("far", self.log_scale.exp().sum() * x.square().sum(-1))


def test_penalties_of_continuous_latents_are_drawn():
    """The closed form of the elbo's gradient has none, so what a penalty adds is the difference of two references."""
    program, x = Far(torch.eye(3)[:, :2], torch.zeros(3), 0.6), torch.randn(4, 3)
    target = target_of(Loss(Penalized(Pathwise(), {"far": 0.1}), program))
    torch.manual_seed(0)
    found = referred(program, x, target, 30)
    torch.manual_seed(0)
    plain = referred(program, x, (elbo, 1), 30)
    assert found.label == "Penalized, 30 draws" and plain.label == "Pathwise, 30 draws"
    penalty = 0.1 * (program.log_scale.exp().sum() * x.square().sum(-1)).mean()
    assert torch.allclose(found.gradient - plain.gradient, Parameters.of(program, x).gradient_of(penalty), atol=1e-12)


def test_verdicts_are_of_bound_and_penalty():
    program, batch = WithPenalties(), data()
    many = tuple(part.repeat(20, *[1] * (part.dim() - 1)) for part in batch)
    rules = {
        "right": Penalized(LeaveOneOut(elbo, 4), WEIGHTS),
        "tempered": Penalized(Beta(LeaveOneOut(elbo, 4), 0.5), WEIGHTS),
        "doubled": Doubled(LeaveOneOut(elbo, 4), WEIGHTS),
        "no target": Penalized(FreeBits(LeaveOneOut(elbo, 4), 0.1), WEIGHTS),
    }
    losses = {name: Loss(rule, program) for name, rule in rules.items()}
    found = compare_gradients(losses, [many], replicates=100, warm_up=2, kept=10)
    assert found.verdict.values.tolist() == ["unbiased", "unbiased", "biased", "undecided"]
    assert found.reference.values.tolist() == ["exact"] * 3 + ["none"]
    assert found.target.values.tolist()[:2] == [
        "elbo, size times 0.7, pull times 0.4",
        "elbo, beta 0.5, size times 0.7, pull times 0.4",
    ]


class Counting(SemiSupervised):
    """A penalty that every draw of two discrete sites decides."""

    def guide(self, x, y):
        trace = pyro.poutine.trace(super().guide).get_trace(x, y)
        known = torch.where(y < 0, trace.nodes["y_unobserved"]["value"], y)
        pyro.deterministic("count", trace.nodes["z"]["value"].sum(-1) + known)


def test_the_mean_over_states_by_hand():
    program, (x, y) = Counting(), data(unknown=True)
    pair = pair_up(program.model, program.guide, (x, y), {})
    found = expected_penalty(pair, enumerate_guide(pair, (x, y), {})[1], {"count": 2.0}, (x, y))
    each = torch.stack([(x @ program.up + program.lift[c]).sigmoid().sum(-1) + c for c in range(CLASSES)], 1)
    guessed = ((x @ program.classify).softmax(1) * each).sum(1)
    known = each.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1)
    assert torch.allclose(found, 2 * torch.where(y < 0, guessed, known), atol=1e-12)
