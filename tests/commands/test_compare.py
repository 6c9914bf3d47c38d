"""`pplvm compare` goes on without an estimator that fails on the program, and says which and why."""

import re
import sys

import pytest
import torch
import xarray as xr

from pplvm.cli import main

FAILING = """
from torch import nn

from pplvm.objectives.pathwise import Pathwise
from pplvm.programs.vae import VAE


class AtOnce(Pathwise):
    def estimate(self, *args, **kwargs):
        raise KeyError("tau")


class WhenLearning(Pathwise):
    def estimate(self, *args, **kwargs):
        found = super().estimate(*args, **kwargs)
        found.surrogate.register_hook(self.fails)
        return found

    def fails(self, gradient):
        raise RuntimeError("view size is not compatible")


class Few(nn.Module):
    def forward(self, z):
        if len(z) > 4 and z.dim() > 2:
            raise RuntimeError("expected 3D or 4D input")
        return z


class Story(VAE):
    def __init__(self, data_size):
        super().__init__(data_size, 2, (5,))
        self.decoder = nn.Sequential(Few(), self.decoder)
"""
QUICK = ["--steps=2", "--replicates=5", "--minibatches=1", "--batch-size=10", "--sweep=K=1,2,8", "--sweep-replicates=3"]


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pplvm", "compare"])
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    (tmp_path / "failing.py").write_text(FAILING)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("failing", None)


def test_what_fails_is_left_out_and_told_early_in_the_table_and_in_the_report(tmp_path, capsys):
    names = "failing:AtOnce,pathwise,failing:WhenLearning,iwae"
    assert main(["compare", *QUICK, "--program=failing:Story", f"--estimators={names}", "--output=run"]) == 0
    shown = capsys.readouterr()
    sentences = [
        "failing:AtOnce is left out: KeyError: 'tau'",
        "failing:WhenLearning is left out: view size is not compatible",
        "nothing is held against the gradient of elbo, as its reference fails: expected 3D or 4D input",
        "pathwise at K = 8, iwae at K = 8 are left out of the sweep: expected 3D or 4D input",
        "nothing is said of the importance weights: expected 3D or 4D input",
    ]
    page = (tmp_path / "run" / "report.html").read_text().replace("&#39;", "'")
    for sentence in sentences:
        assert sentence in shown.out.splitlines() and sentence in page
    for sentence in sentences[:3]:
        before, told, _ = shown.err.partition(f"pplvm compare: {sentence}")
        assert told and not re.search(r"replicates: .*[1-9]/5 ", before)  # none was drawn yet
    with xr.open_dataset(tmp_path / "run" / "gradients.nc", engine="h5netcdf") as data:
        assert data.estimator.values.tolist() == ["pathwise", "iwae"] and data.attrs["left_out"].count("\n") == 4


@pytest.mark.parametrize(
    "name, code, words",
    [
        ("AtOnce", 2, "no estimator is left for program Story: failing:AtOnce is left out: KeyError: 'tau'"),
        ("WhenLearning", 1, "RuntimeError: estimator failing:WhenLearning: view size is not compatible"),
    ],
)
def test_where_all_fail_the_reason_is_the_commands(name, code, words, tmp_path, capsys):
    assert main(["compare", *QUICK, "--program=failing:Story", f"--estimators=failing:{name}", "--output=run"]) == code
    assert f"pplvm compare: {words}" in capsys.readouterr().err and not (tmp_path / "run").exists()
