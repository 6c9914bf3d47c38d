"""Verdicts of the comparison: wrong estimators are called biased, right ones never, little evidence undecided."""

import numpy as np
import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.references import reference
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.targets import Tabulated
from tests.objectives.test_mutants import MUTANTS
from tests.problems import (
    linear_gaussian,
    small_net,
    two_data,
)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_called_biased(name):
    net, x = small_net(), two_data()
    losses = {"mutant": Loss(MUTANTS[name](), net), "right": Loss(LeaveOneOut(elbo, 3), net)}
    result = compare_gradients(losses, [x], replicates=250)
    assert str(result.verdict.sel(estimator="mutant").values) == "biased"
    assert str(result.verdict.sel(estimator="right").values) != "biased"
    assert float(result.relative_bias.sel(estimator="mutant")) > 0.05
    if name == "current sample inside the baseline":
        alignment = result.alignment.sel(estimator="mutant", side="guide")
        assert abs(float(alignment) - 2 / 3) < 5 * float(result.alignment_se.sel(estimator="mutant", side="guide"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["paths", "scores"])
def test_a_reference_that_is_an_estimate_accuses_nobody(kind, monkeypatch):
    """Unbiased estimators against a noisy reference, over 12 seeds: p-values as they should be."""
    monkeypatch.setattr(reference, "MOST_STATES", 1)
    program = linear_gaussian() if kind == "paths" else small_net((3,), data_size=6)
    x = torch.randn(4, 3) if kind == "paths" else (torch.rand(4, 6) < 0.5).double()
    of_paths, of_scores = [Pathwise(), DoublyReparameterized(iwae, 2)], [LeaveOneOut(elbo, 2), LeaveOneOut(iwae, 2)]
    rules = of_paths if kind == "paths" else of_scores
    p_values, alignments = [], []
    for seed in range(12):
        losses = {str(i): Loss(rule, program) for i, rule in enumerate(rules)}
        result = compare_gradients(losses, [x], replicates=80, reference_draws=80, seed=seed)
        assert "draws (s.e." in str(result.reference.values[0])
        p_values += result.p_value.values.tolist()
        alignments.append(float(result.alignment.sel(side="model").mean()))
    assert sum(p < 0.05 for p in p_values) <= 5 and min(p_values) > 1e-4  # 1.2 of 24 expected below 0.05
    assert abs(np.mean(alignments) - 1) < 5 * np.std(alignments) / 12**0.5 + 0.02


def test_what_the_estimator_does_not_name_is_not_judged():
    class Nameless(LeaveOneOut):
        target = property(lambda self: Tabulated("my own"))

    net, x = small_net(), two_data()
    result = compare_gradients({"mine": Loss(Nameless(), net)}, [x], replicates=10)
    assert str(result.verdict.values[0]) == "undecided" and str(result.reference.values[0]) == "none"


def test_a_quiet_estimator_is_not_taken_for_an_exact_one():
    """Its draws are nearly all the same; only an objective that draws nothing is repeated instead of computed."""
    net, x = small_net(), two_data()[:1]
    with torch.no_grad():
        net.encoders[0].last.bias.fill_(4.0)
    comparison = Comparison({"rloo": Loss(LeaveOneOut(), net), "exact": Loss(Exact(), net)}, [x], replicates=300)
    for _ in comparison.rounds():
        pass
    assert [name for name, drawing in comparison.drawings.items() if drawing.is_noiseless] == ["exact"]
    assert float(comparison.result().variance.sel(estimator="rloo")) > 0


def test_few_data_with_rare_states_accuse_nobody():
    """A state that a hundred draws of two data miss is missing in mean and variance: that is no bias."""
    verdicts = []
    for seed in range(8):
        net = small_net()
        result = compare_gradients({"rloo": Loss(LeaveOneOut(elbo, 2), net)}, [two_data()], replicates=100, seed=seed)
        verdicts.append(str(result.verdict.item()))
    assert verdicts.count("biased") <= 1  # of one in a hundred; by a singular covariance it was every other
