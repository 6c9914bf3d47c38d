"""Targets by their tables: equal by name, and what verdicts of a comparison rest on."""

import pytest
import torch

from pplvm.bounds import elbo
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.references.target import target_of
from pplvm.objectives.objective import Loss
from pplvm.objectives.targets import LOG_EVIDENCE, WAKE_SLEEP, Tabulated, thermodynamic
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from tests.problems import small_net, two_data


def test_targets_are_equal_by_name():
    assert thermodynamic(2) == thermodynamic((0, 0.5, 1)) != thermodynamic(3)
    assert len({thermodynamic(2), thermodynamic([0, 0.5, 1]), LOG_EVIDENCE, WAKE_SLEEP}) == 3
    with pytest.raises(ValueError, match="must rise from 0 to 1"):
        thermodynamic((0.5, 1))


def test_tables_by_hand():
    log_p, log_q = torch.tensor([[0.1], [0.3]]).log(), torch.tensor([[0.5], [0.5]]).log()
    assert LOG_EVIDENCE.of_tables(log_p, log_q).exp().tolist() == pytest.approx([0.4])
    by_hand = torch.tensor(0.4).log() + torch.tensor(0.5).log()
    assert WAKE_SLEEP.of_tables(log_p, log_q).tolist() == pytest.approx([float(by_hand)])
    of_elbo = (log_q.exp() * (log_p - log_q)).sum(0)
    torch.testing.assert_close(thermodynamic(1).of_tables(log_p, log_q), of_elbo)


def test_a_comparison_says_what_it_can():
    """Few particles are biased for their target and said to be; a dream has no reference."""
    net, x = small_net(), two_data()
    losses = {
        "rws": Loss(ReweightedWakeSleep(2), net),
        "sleep": Loss(WakeSleep(2), net),
        "thermodynamic": Loss(Thermodynamic((0, 0.3, 1), 2), net),
    }
    result = compare_gradients(losses, [x], replicates=400, kept=10)
    columns = zip(result.target.values, result.reference.values, result.verdict.values, strict=True)
    said = {name: tuple(map(str, row)) for name, row in zip(losses, columns, strict=True)}
    assert said["rws"] == ("wake-sleep", "exact", "biased")
    assert said["sleep"] == ("helmholtz", "none", "undecided")
    assert said["thermodynamic"] == ("thermodynamic(0, 0.3, 1)", "exact", "biased")
    assert target_of(losses["rws"]) == (WAKE_SLEEP, 1) and Tabulated("mine") != elbo
