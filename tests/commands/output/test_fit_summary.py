"""What a run ends with: figures on their decimal points, and commands that can be given as they stand."""

import argparse
import shlex
from pathlib import Path

import pytest

from pplvm.commands.options.build_parser import build_parser
from pplvm.commands.output.fit_summary import FitOutcome, fit_summary

RECORDS = [
    {"step": 50, "epoch": 1, "bound": -120.5},
    {"step": 50, "validation/bound": -101.25},
    {"step": 100, "epoch": 2, "bound": -9.5},
    {"step": 100, "validation/bound": None},
    {"step": 150, "validation/bound": -101.25},
    {"step": 200, "validation/bound": -103.0},
]


def told(records=RECORDS, run="runs/mine", is_stopped=False, is_over=False, step=200, **settings):
    known = {"program": "vae", "steps": 200, "early_stop": None, **settings}
    found = FitOutcome(step, 61.0, 1234, is_stopped, is_over)
    return fit_summary(found, records, "bound", argparse.Namespace(**known), Path(run)).splitlines()


def commands(lines):
    return [line[line.index("pplvm ") :] for line in lines if "pplvm " in line]


def test_figures_and_the_first_of_the_best_steps():
    assert told() == [
        "training bound      -9.50 nats, mean of steps 51 to 100",
        "validation bound  -103.00 nats at step 200",
        "best validation   -101.25 nats at step 50",
        "time              1 min 1 s, 1,234 images/s",
        "next              pplvm evaluate runs/mine --weights best",
        "                  pplvm fit --resume runs/mine --steps 400",
    ]


@pytest.mark.parametrize(
    "how, last",
    [
        ({"is_stopped": True, "step": 120}, "pplvm evaluate runs/mine --weights best"),
        ({"is_over": True, "step": 120, "early_stop": 5}, "pplvm fit --resume runs/mine --early-stop 10"),
        ({"is_over": True, "early_stop": 5}, "pplvm fit --resume runs/mine --early-stop 10 --steps 400"),
        ({"run": "my runs/a"}, "pplvm fit --resume 'my runs/a' --steps 400"),
    ],
)
def test_the_next_commands_are_taken_by_the_parser(how, last):
    found = commands(told(**how))
    assert found[-1] == last and len(found) == 2
    for command in found:
        build_parser().parse_args(shlex.split(command)[1:])


def test_a_run_that_was_evaluated_before_is_evaluated_anew(tmp_path):
    evaluate = f"pplvm evaluate {tmp_path} --weights best"
    assert commands(told(run=str(tmp_path)))[0] == evaluate
    (tmp_path / "evaluation-test").mkdir()
    assert commands(told(run=str(tmp_path)))[0] == f"{evaluate} --overwrite"


def test_without_validation_no_best_weights_are_promised():
    lines = told([record for record in RECORDS if "bound" in record])
    assert commands(lines)[0] == "pplvm evaluate runs/mine" and not any("validation" in line for line in lines)


def test_a_run_without_a_record_still_tells_its_time():
    assert told([])[0].startswith("time  ")


def test_every_line_fits_80_columns():
    assert max(map(len, told(step=1_999_999, steps=2_000_000))) <= 80
