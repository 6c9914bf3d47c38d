"""Runs grouped by all settings but the seed, and the spread of their figures."""

import argparse
import math
from pathlib import Path

from pplvm.commands.evaluation.seeds import by_seed, spread, told, values_of
from pplvm.commands.options.build_parser import build_parser
from pplvm.evaluation.evaluation import Evaluation
from pplvm.evaluation.figures import Figure


def run(name, *words, step=2000):
    settings = build_parser().parse_args(["fit", *words])
    return argparse.Namespace(directory=Path(name), settings=settings, checkpoint=argparse.Namespace(step=step))


def test_runs_that_differ_by_their_seed_alone_are_one_group():
    runs = [
        run(f"{beta}-{seed}", f"--beta={beta}", f"--seed={seed}", f"--log-every={50 + seed}", "--output=elsewhere")
        for beta in (1, 4)
        for seed in (0, 1, 2)
    ]
    groups = by_seed(runs)
    assert [(group.words, group.seeds, group.members) for group in groups] == [
        ("beta 1.0", (0, 1, 2), (0, 1, 2)),
        ("beta 4.0", (0, 1, 2), (3, 4, 5)),
    ]
    assert groups[1].settings == {"beta": 4.0}
    (only,) = by_seed(runs[:3])
    assert (only.words, len(only.members)) == ("all runs", 3)
    assert len(by_seed([run("a"), run("b", "--beta=1", "--seed=1")])) == 1  # without --beta it is 1


def test_no_seed_counts_twice_and_no_unfinished_run_counts_as_a_seed():
    assert [group.members for group in by_seed([run("a"), run("b"), run("c", "--seed=1")])] == [(0, 2), (1,)]
    unfinished = [run("a"), run("b", "--seed=1", step=500)]
    assert [group.words for group in by_seed(unfinished)] == ["step none", "step 500"]
    assert len(by_seed(unfinished, "best")) == 1  # whose best is of any step
    stopping = [run(name, f"--seed={seed}", "--early-stop=3", step=500 + seed) for seed, name in enumerate("ab")]
    assert len(by_seed(stopping)) == 1


def test_many_settings_are_told_by_the_name_of_a_run():
    groups = by_seed([run("plain"), run("other", "--beta=2", "--steps=2001", "--program=ppca", step=2001)])
    assert [group.words for group in groups] == ["as plain", "as other"]
    assert set(groups[0].settings) == {"beta", "steps", "program"}


def test_the_spread_of_one_seed_is_unknown():
    assert spread([2.0, 4.0]) == (3.0, 2**0.5) and math.isnan(spread([2.0]).deviation)
    assert told([2.0, 4.0]) == "3.00 +- 1.41" and told([2.0]) == "2.00"


def test_figures_are_those_that_all_runs_of_a_group_have():
    def evaluation(*figures):
        return Evaluation({"first": [Figure(*each, None, "") for each in figures]}, {}, ())

    found = [evaluation(("rate", 1.0), ("only here", 3.0), ("rate", 9.0)), evaluation(("rate", 2.0))]
    (group,) = by_seed([run("a"), run("b", "--seed=1")])
    assert values_of(found, group) == {"rate": [1.0, 2.0]}
