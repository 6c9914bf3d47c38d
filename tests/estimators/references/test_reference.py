"""References against exact gradients by enumeration."""

import pytest
import torch

from pplvm.bounds import elbo, iwae, renyi
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.references import reference
from pplvm.estimators.references.reference import reference_draws
from pplvm.networks.leading_dims import LeadingDims
from pplvm.objectives.exact import Exact
from pplvm.objectives.targets import LOG_EVIDENCE, WAKE_SLEEP
from tests.estimators.finished import finished
from tests.problems import exact_gradient, linear_gaussian, small_net, two_data


def referred(program, x, targets, draws, failed=pytest.fail):
    return finished(
        reference_draws(program, Parameters.of(program, x), x, targets, draws, lambda gradient: gradient[:3], failed)
    )


def summed(net, x, bound, K):
    return -sum(exact_gradient(net, row[None], bound, K)[0] for row in x) / len(x)


@pytest.mark.parametrize("latent_sizes", [(2,), (2, 2)])
def test_elbo_from_tables(latent_sizes):
    net, x = small_net(latent_sizes), two_data()
    found = referred(net, x, {(elbo, 1), (iwae, 1)}, draws=3)
    for kind in (elbo, iwae):
        assert found[kind, 1].label == "exact" and found[kind, 1].projected is None
        assert torch.allclose(found[kind, 1].gradient, summed(net, x, elbo, 1), atol=1e-12)


def test_log_p_and_wake_sleep_from_tables():
    net, x = small_net(), two_data()
    parameters = Parameters.of(net, x)
    found = referred(net, x, {(LOG_EVIDENCE, 1), (WAKE_SLEEP, 1)}, draws=3)
    model = parameters.side("model")
    assert torch.allclose(found[LOG_EVIDENCE, 1].gradient[model], found[WAKE_SLEEP, 1].gradient[model])
    assert found[LOG_EVIDENCE, 1].gradient[~model].abs().max() == 0
    epsilon, values = 1e-6, []
    bias = net.decoders[0].last.bias
    for sign in (1, -1):  # a finite difference of log p(x), by enumeration
        with torch.no_grad():
            bias[0] += sign * epsilon
            values.append(Exact().loss(net.model, net.guide, x) / len(x))
            bias[0] -= sign * epsilon
    entry = next(i for i in range(parameters.size) if parameters.entry_name(i).endswith("bias[0]"))
    assert float(found[LOG_EVIDENCE, 1].gradient[entry]) == pytest.approx(
        (values[0] - values[1]) / 2 / epsilon, abs=1e-6
    )


@pytest.mark.parametrize("bound", [iwae, renyi(0.5)])
def test_drawn_bounds_of_many_particles_within_their_error(bound):
    net, x = small_net(), two_data()
    found = referred(net, x, {(bound, 3)}, draws=30)[bound, 3]
    error = found.error.sqrt()
    assert found.projected.shape == (40, 3)
    z = (found.gradient - summed(net, x, bound, 3)) / error.clamp(min=1e-12)
    assert z.abs().max() < 4.5
    assert error.max() < 0.01


def test_without_tables_a_declared_estimator_serves(monkeypatch):
    monkeypatch.setattr(reference, "MOST_STATES", 1)
    net, x = small_net(), two_data()
    found = referred(net, x, {(elbo, 1), (iwae, 2), (LOG_EVIDENCE, 1)}, draws=120)
    assert found[LOG_EVIDENCE, 1] is None
    assert found[elbo, 1].label == "LocalExpectation, 120 draws"
    assert found[iwae, 2].label == "LeaveOneOut, 120 draws"
    for bound, K in ((elbo, 1), (iwae, 2)):
        error = found[bound, K].error.sqrt()
        assert ((found[bound, K].gradient - summed(net, x, bound, K)) / error.clamp(min=1e-9)).abs().max() < 4.5


def test_paths_serve_where_all_sites_have_them():
    program, x = linear_gaussian(), torch.randn(4, 3)
    found = referred(program, x, {(elbo, 1), (iwae, 4)}, draws=20)
    assert {r.label for r in found.values()} == {"Pathwise, 20 draws"}


def test_parameters_know_their_sides_and_names():
    net, x = small_net((2, 3)), two_data()
    parameters = Parameters.of(net, x)
    sides = dict(zip(parameters.names, parameters.sides, strict=True))
    assert {n for n, s in sides.items() if s == "guide"} == {n for n in sides if n.startswith("encoders")}
    names = [parameters.entry_name(i) for i in range(parameters.size)]
    assert len(set(names)) == parameters.size and names[0] == "prior_logits[0]"
    with pytest.raises(IndexError):
        parameters.entry_name(parameters.size)


def test_no_table_of_states_where_data_depend_on_each_other():
    """Batch normalization of the decoder's layer: a state of one datum beside the same state of all others."""
    net, x = small_net(), two_data()
    net.decoders[0] = torch.nn.Sequential(net.decoders[0], LeadingDims(torch.nn.BatchNorm1d(3), 1))
    told = {}
    assert referred(net, x, {(elbo, 1)}, draws=3, failed=told.__setitem__) == {(elbo, 1): None}
    assert "when other data of the batch have other draws" in str(told[elbo, 1])
    net.eval()
    assert referred(net, x, {(elbo, 1)}, draws=3)[elbo, 1].label == "exact"
