"""Labels for some data: the exact elbo by summing the label, unbiased gradients, figures with their right names."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pplvm.bounds import elbo
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from tests.noise import LIMIT, z_scores
from tests.seams.moments import gradient, group_means
from tests.seams.programs import Labelled, SemiSupervised

X = torch.tensor([[0.3, -1.1, 0.4, 1.9], [1.2, 0.3, -0.7, 0.1], [-0.5, 0.9, 1.4, -1.3], [2.1, -0.2, 0.3, 0.8]]).double()
MIXED = torch.tensor([-1, 2, 0, -1])
NONE, ALL = torch.tensor([-1, -1, -1, -1]), torch.tensor([1, 2, 0, 0])
RULES = {
    "leave-one-out": lambda: LeaveOneOut(elbo, 4),
    "score function": lambda: ScoreFunction(elbo, 2),
    "local expectation": LocalExpectation,
    "per site": lambda: PerSite({"y_unobserved": LocalExpectation()}),
}


@pytest.mark.parametrize("rule", RULES)
def test_value_and_gradient_are_those_with_the_label_summed_out(rule):
    program = SemiSupervised(4, 3)
    values, gradients = group_means(Loss(RULES[rule](), program), (X, MIXED))
    truth = -program.elbo(X, MIXED).mean()
    assert abs(values.mean() - truth) < 5 * values.std() / len(values) ** 0.5
    assert z_scores(gradients, gradient(truth, program)).abs().max() < LIMIT
    other = -program.elbo(X, NONE).mean()  # whoever forgot the labels would be seen
    errors = gradients.std(0) / len(gradients) ** 0.5
    assert ((gradients.mean(0) - gradient(other, program)).abs() > 10 * LIMIT * errors).any()


@pytest.mark.parametrize("y", [MIXED, NONE, ALL])
def test_the_exact_objective_sums_unknown_labels_and_counts_known_ones_once(y):
    program = Labelled(4, 3)
    value, truth = Loss(Exact(), program)(X, y), -program.log_joint(X, y).mean()
    torch.testing.assert_close(value, truth)
    torch.testing.assert_close(gradient(value, program), gradient(truth, program))


@pytest.mark.parametrize(
    "order, tier",
    [
        ((NONE, ALL, MIXED), "off"),
        ((ALL, MIXED, NONE), "off"),
        ((ALL, NONE, MIXED), "graph"),
        pytest.param((NONE, MIXED, ALL), "graph", marks=pytest.mark.slow),
    ],
)
def test_labelled_and_unlabelled_batches_go_through_one_loss_in_any_order(order, tier):
    program = SemiSupervised(4, 3)
    loss = compiled(Loss(LeaveOneOut(elbo, 2), program), tier)
    x = X.repeat(1500, 1)
    for y in (*order, *order):
        drawn = float(loss.backward(x, y.repeat(1500)))
        # the standard deviation of one datum's log-weight is about 2 nats here, of 6,000 data 0.03
        assert drawn == pytest.approx(float(-program.elbo(X, y).mean().detach()), abs=0.15)


def test_at_the_posterior_log_weights_are_the_joint_of_known_labels_and_the_evidence_of_the_others():
    program = SemiSupervised(4, 3, latent_size=1).at_posterior()
    truth = program.log_joint(X, MIXED).detach()
    found = importance_sampled(program, (X, MIXED), ks=(1, 30))
    torch.testing.assert_close(found.log_p, truth[:, None].expand(4, 2))
    torch.testing.assert_close(-Loss(LeaveOneOut(elbo, 2), program)(X, MIXED), truth.mean())


def test_figures_tell_the_joint_of_known_labels_from_the_evidence_of_the_others():
    program = SemiSupervised(4, 3, latent_size=1).at_posterior()
    truth = program.log_joint(X, MIXED).detach()
    figures = {f.name: f for f in evaluate(program, (X, MIXED), ks=(1, 10)).sections["likelihood"]}
    known, unknown = figures["log p(x, y), of 2 data"], figures["log p(x), of 2 data"]
    assert known.value == pytest.approx(float(truth[[1, 2]].mean()))
    assert unknown.value == pytest.approx(float(truth[[0, 3]].mean()))
    assert figures["log p(x, y where known), k = 10"].value == pytest.approx(float(truth.mean()))
    others = set(figures) - {known.name, unknown.name}
    assert not any(name.startswith(("log p(x)", "log p(x, exact", "bits", "density", "elbo")) for name in others), (
        others
    )


@pytest.mark.parametrize("y, name", [(NONE, "log p(x), k = 10"), (ALL, "log p(x, y), k = 10")])
def test_figures_of_data_of_one_kind_have_one_name(y, name):
    program = SemiSupervised(4, 3, latent_size=1).at_posterior()
    figures = {f.name: f for f in evaluate(program, (X, y), ks=(1, 10)).sections["likelihood"]}
    assert figures[name].value == pytest.approx(float(program.log_joint(X, y).mean().detach()))
    assert any("bits" in name or "density" in name for name in figures) == bool((y < 0).all())


class Guided(Labelled):
    """With a guide that draws the unknown labels, as evaluation asks for."""

    def guide(self, x, y):
        with pyro.plate("batch", len(x)), poutine.mask(mask=y < 0):
            pyro.sample("y_unobserved", dist.Categorical(logits=x[:, :3]))


def test_the_exact_evidence_of_mixed_labels_is_theirs():
    program = Guided(4, 3)
    found = log_evidence(program, (X, MIXED))
    torch.testing.assert_close(found.log_p, program.log_joint(X, MIXED).detach())
