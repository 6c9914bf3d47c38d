"""Estimators of programs with conditions: exact references, verdicts, graphs; wrong labels are found."""

import pytest
import torch

from pplvm.bounds import elbo
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.cost.evaluations import evaluations_per_datum
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.particle_sweep import ParticleSweep
from pplvm.estimators.references.reference import reference_draws
from pplvm.estimators.replicates.vmapped import Replicates
from pplvm.estimators.verification.known_gradients import Known
from pplvm.estimators.verification.verify import verify
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from tests.estimators.conditioned import CLASSES, PROGRAMS, Labelled, data
from tests.estimators.finished import finished
from tests.estimators.replicates.test_vmapped import gradients

EVERY = pytest.mark.parametrize("kind", PROGRAMS)


class WrongLabels(LeaveOneOut):
    """Gives the program the classes of other data."""

    def estimate(self, pair, x, y):
        return super().estimate(pair, x, y.roll(1))


def by_hand(program, batch):
    value = -program.elbo(*batch).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(program.parameters()))])


@EVERY
def test_the_reference_is_the_gradient_by_hand(kind):
    maker, batch = PROGRAMS[kind]
    program = maker()
    parameters = Parameters.of(program, batch)
    first = lambda gradient: gradient[:3]
    found = finished(reference_draws(program, parameters, batch, {(elbo, 1)}, 3, first, pytest.fail))[elbo, 1]
    assert found.label == "exact" and parameters.size == sum(p.numel() for p in program.parameters())
    assert torch.allclose(found.gradient, by_hand(program, batch), rtol=1e-10, atol=1e-12)
    x, y = batch
    assert not torch.allclose(found.gradient, by_hand(program, (x, y.roll(1))), rtol=0.05)


@EVERY
def test_right_estimators_are_unbiased_and_wrong_labels_are_found(kind):
    maker, batch = PROGRAMS[kind]
    program = maker()
    rules = {
        "rloo": LeaveOneOut(elbo, 4),
        "average": ScoreFunction(elbo, 4, MovingAverage()),
        "wrong": WrongLabels(elbo, 4),
    }
    losses = {name: Loss(rule, program) for name, rule in rules.items()}
    many = tuple(part.repeat(20, *[1] * (part.dim() - 1)) for part in batch)
    found = compare_gradients(losses, [many], replicates=120, kept=10)
    assert found.verdict.values.tolist() == ["unbiased", "unbiased", "biased"]
    assert set(found.reference.values) == {"exact"} and found.attrs["batch_size"] == 120


@EVERY
def test_replicates_through_a_graph_share_their_conditions(kind):
    maker, batch = PROGRAMS[kind]
    loss = Loss(LeaveOneOut(elbo, 3), maker())
    loss(*batch)
    learned = list(loss.program.parameters())
    ours, eager = Replicates(loss, batch, learned, chunk=4), Replicates(loss, batch, learned, tier="off")
    assert ours.plan.startswith("4 at a time")
    expected = gradients(eager, range(9))
    assert (gradients(ours, range(9)) - expected).abs().max() < 1e-10 * expected.abs().max()
    x, y = batch
    (others,) = (torch.cat([g.dense().values.flatten() for g in each.gradients]) for each in ours.draw([3], (x, y * 0)))
    (theirs,) = (torch.cat([g.dense().values.flatten() for g in e.gradients]) for e in eager.draw([3], (x, y * 0)))
    assert torch.allclose(others, theirs, rtol=1e-10) and not torch.allclose(others, expected[3], rtol=1e-2)


def test_a_sweep_and_costs_take_conditions():
    program, batch = Labelled(), data()
    sweep = ParticleSweep({"rloo": {K: Loss(LeaveOneOut(elbo, K), program) for K in (2, 4)}}, batch, replicates=20)
    assert list(sweep.rounds())[-1] == 40
    assert (sweep.result().sweep_snr > 0).all()
    assert evaluations_per_datum(Loss(LeaveOneOut(elbo, 4), program), batch) == 4
    assert evaluations_per_datum(Loss(Exact(), program), batch) == 4  # states of two bits


def test_conditions_of_other_data_are_refused():
    program, (x, y) = Labelled(), data()
    with pytest.raises(ValueError, match=r"data and conditions need as many rows, not 5 and 6"):
        compare_gradients({"rloo": Loss(LeaveOneOut(), program)}, [(x, y[:5])])


def test_verify_takes_conditions():
    def of(rule):
        known = [Known(kind, maker, tuple(part[1:2] for part in batch)) for kind, (maker, batch) in PROGRAMS.items()]
        return [finding.verdict for finding in verify(lambda x: rule(elbo, 2), known=tuple(known))]

    assert of(LeaveOneOut) == ["unbiased"] * 2
    assert set(of(Shifted)) <= {"biased", "broken"}  # the bound that it reports is another too


class Shifted(LeaveOneOut):
    """Gives the program the next class."""

    def estimate(self, pair, x, y):
        return super().estimate(pair, x, (y + 1) % CLASSES)
