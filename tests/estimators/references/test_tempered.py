"""Tempered bounds against references: exact tables, draws from them, and the verdict of a comparison."""

import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references import reference
from pplvm.estimators.references.reference import reference_draws
from pplvm.estimators.verification.verify import verify
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.tempered import Beta, FreeBits
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from tests.estimators.finished import finished
from tests.objectives.test_tempered import ScaledScore, tempered_gradient, term_tables
from tests.problems import small_net, two_data


def referred(net, x, targets, draws):
    return finished(
        reference_draws(net, Parameters.of(net, x), x, targets, draws, lambda gradient: gradient[:3], pytest.fail)
    )


@pytest.mark.parametrize("beta, own", [(0.3, {}), (0.5, {"z_1": 3.0})])
def test_the_reference_is_exact(beta, own):
    net, x, betas = small_net((2, 2)), two_data()[:1], {n: beta * own.get(n, 1.0) for n in ("z_1", "z_2")}
    target = TemperedBound(elbo, beta, tuple(own.items()))
    found = referred(net, x, {(target, 1), (elbo, 1)}, 3)
    assert found[target, 1].label == "exact"
    assert torch.allclose(found[target, 1].gradient, -tempered_gradient(net, x, elbo, 1, betas), atol=1e-12)
    assert torch.allclose(found[elbo, 1].gradient, -tempered_gradient(net, x, elbo, 1, {}), atol=1e-12)


def test_references_that_are_drawn(monkeypatch):
    net, x = small_net(), two_data()[:1]
    target = TemperedBound(iwae, 0.3)
    truth = -tempered_gradient(net, x, iwae, 2, {"z_1": 0.3})
    from_tables = referred(net, x, {(target, 2)}, 3)[target, 2]
    monkeypatch.setattr(reference, "MOST_STATES", 1)
    from_draws = referred(net, x, {(target, 2)}, 150)[target, 2]
    for found in (from_tables, from_draws):
        assert ((found.gradient - truth) / found.error.sqrt().clamp(min=1e-9)).abs().max() < 4.5
    assert from_draws.label == "Beta, 150 draws"


def test_a_comparison_finds_the_mutant_and_does_not_judge_free_bits():
    net, x = small_net(), two_data()
    losses = {
        "beta": Loss(Beta(LeaveOneOut(elbo, 4), 0.3), net),
        "mutant": Loss(Beta(ScaledScore(elbo, 4), 0.3), net),
        "free bits": Loss(FreeBits(LeaveOneOut(elbo, 4), 0.3), net),
    }
    found = compare_gradients(losses, [x], replicates=60).sel
    assert found(estimator="mutant").verdict == "biased" != found(estimator="beta").verdict
    assert found(estimator="beta").target == "elbo, beta 0.3"
    assert found(estimator="free bits").reference == "none" and found(estimator="free bits").verdict == "undecided"


def test_verify_takes_the_weights_into_account():
    right, mutant, unknown = (
        next(verify(lambda x, make=make: make())).verdict
        for make in (
            lambda: Beta(LeaveOneOut(elbo, 2), 0.3),
            lambda: Beta(ScaledScore(elbo, 2), 0.3),
            lambda: FreeBits(LeaveOneOut(elbo, 2), 0.3),
        )
    )
    assert (right, mutant, unknown) == ("unbiased", "biased", "undecided")


def test_tables_of_a_tempered_pair():
    net, x = small_net((2, 2)), two_data()[:1]
    pair = pair_up(net.model, net.guide, (x,), {})
    log_q, terms = term_tables(net, x)
    tempered = pair.__class__(pair.model, pair.guide, pair.nesting, TemperedBound(elbo, 0.3).tempering())
    log_p, same = enumerate_guide(tempered, (x,), {})
    weighed = sum(term * (0.3 if name in ("z_1", "z_2") else 1.0) for name, term in terms.items())
    assert torch.allclose(same[:, 0], log_q, atol=1e-12)
    assert torch.allclose((log_p - same)[:, 0], weighed, atol=1e-12)
