"""Families of gradient rules."""

import pytest
from pyro.infer import Trace_ELBO

from pplvm.catalog import OBJECTIVES, find
from pplvm.estimators.results.rule_families import OTHER, RULES, rule_of
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.tempered import Beta, Warmup

KNOWN = {
    "score-function": "score function", "rloo": "score function", "vimco": "score function", "nvil": "score function",
    "arm": "antithetic draws", "disarm-iwae": "antithetic draws", "arms": "antithetic draws",
    "rebar": "control variate", "double-cv": "control variate", "exact": "enumeration",
    "local-expectation": "enumeration", "measure-valued": "measure-valued", "pathwise": "pathwise", "dreg": "pathwise",
    "stick-the-landing": "pathwise", "beta-rloo": "score function", "biased-st": "biased relaxation",
    "biased-reinmax": "biased relaxation", "biased-gumbel-rao": "biased relaxation",
    "biased-code-st": "biased relaxation", "biased-code-rotation": "biased relaxation",
    "wake-sleep": "wake-sleep", "rws": "wake-sleep", "pyro-trace": "Pyro's own", "pyro-tracegraph": "Pyro's own",
    "prior-sampling": OTHER, "per-site": OTHER,
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_the_catalogue_by_family(name):
    maker = find("objective", OBJECTIVES, name)
    assert rule_of(maker(data_size=4) if name == "nvil" else maker()) == KNOWN[name]


def test_every_family_has_a_member_in_the_catalogue():
    assert set(KNOWN.values()) == {*RULES, OTHER}


def test_wrappers_have_the_rule_of_what_they_hold():
    assert rule_of(Warmup(Beta(Pathwise(), 2.0), steps=10)) == "pathwise"


def test_an_objective_of_ones_own_is_another_rule():
    class Mine(Trace_ELBO):
        pass

    class MyPathwise(Pathwise):
        pass

    assert rule_of(Mine()) == OTHER and rule_of(MyPathwise()) == "pathwise"
