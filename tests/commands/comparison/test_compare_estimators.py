"""Which estimators a comparison takes up: none twice under two names, and one line for all with the same reason."""

import re
import sys

import pytest
import torch
import xarray as xr

from pplvm.cli import main
from pplvm.commands.comparison.compare_estimators import Choice
from pplvm.estimators.failures import left_out_sentences

QUICK = [
    "--program=vae",
    "--steps=0",
    "--replicates=3",
    "--minibatches=1",
    "--batch-size=8",
    "--sweep=",
    "--output=run",
]
FAILING = """
from pplvm.objectives.pathwise import Pathwise

class One(Pathwise):
    def estimate(self, *args, **kwargs):
        raise KeyError("tau")

class Two(One):
    pass
"""


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pplvm", "compare"])
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    (tmp_path / "alike.py").write_text(FAILING)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("alike", None)


def test_on_a_vae_rules_for_discrete_sites_are_pathwise_and_told_in_one_line(capsys):
    assert main(["compare", *QUICK, "--reference-draws=5"]) == 0
    shown = capsys.readouterr()
    (line,) = re.findall(r"^(.*): no site of this guide uses their rule, each is pathwise here$", shown.out, re.M)
    assert {"arm", "disarm", "rloo", "score-function", "rebar", "vimco"} <= set(line.split(", "))
    (noted,) = re.findall(r"^(.*): no site of this guide uses its rule, so it is the pathwise", shown.out, re.M)
    assert noted == "pyro-trace, pyro-tracegraph"  # Pyro's own code, which is compared
    with xr.open_dataset("run/gradients.nc", engine="h5netcdf") as data:
        measured = set(data.estimator.values.tolist())
    assert measured >= {"pathwise", "analytic-kl", "stick-the-landing", "measure-valued", "iwae", "dreg"}
    assert not measured & set(line.split(", "))


def test_one_that_is_named_is_measured_and_marked(tmp_path, capsys):
    assert main(["compare", *QUICK, "--estimators=arm,pathwise", "--reference-draws=5"]) == 0
    assert "arm: no site of this guide uses its rule, so it is the pathwise gradient" in capsys.readouterr().out
    with xr.open_dataset("run/gradients.nc", engine="h5netcdf") as data:
        notes = dict(zip(data.estimator.values.tolist(), data.note.values.tolist(), strict=True))
        variance = data.variance.values
    assert notes["pathwise"] == "" and notes["arm"].startswith("no site of this guide uses its rule")
    assert variance[0] == pytest.approx(variance[1], rel=1e-4)
    assert notes["arm"] in (tmp_path / "run" / "report.html").read_text()


def test_fit_says_it_once(capsys):
    words = ["fit", "--program=vae", "--steps=2", "--batch-size=8"]
    assert main([*words, "--objective=arm", "--output=one"]) == 0
    assert capsys.readouterr().err.count("no site of this guide uses the rule of ARM, so it is the pathwise") == 1
    assert main([*words, "--objective=pathwise", "--output=two"]) == 0
    assert "no site" not in capsys.readouterr().err


def test_those_that_fail_in_the_same_words_have_one_line(capsys):
    assert main(["compare", *QUICK, "--estimators=alike:One,pathwise,alike:Two", "--reference-draws=5"]) == 0
    shown = capsys.readouterr()
    line = "alike:One, alike:Two are left out: KeyError: 'tau'"
    assert line in shown.out.splitlines() and f"pplvm compare: {line}" in shown.err


def test_reasons_stay_with_those_they_are_of():
    choice = Choice(torch.nn.Linear(1, 1), None)
    choice.reasons |= {"a": "too large", "b": "no path", "c": "too large"}
    choice.repeats += ["d"]
    assert choice.left_out == [
        "a, c are left out: too large",
        "b is left out: no path",
        "d: no site of this guide uses its rule, it is pathwise here",
    ]
    assert left_out_sentences({}) == []
