"""`pplvm compare` that ends early marks what is unfinished and gives no verdict on it; what was finished keeps its."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import xarray as xr

from pplvm.cli import main
from pplvm.commands.comparison.interrupted_sections import mark_interrupted
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.particle_sweep import ParticleSweep

WORDS = [
    "compare", "--estimators=rloo,score-function", "--steps=0,3", "--replicates=30", "--minibatches=2",
    "--batch-size=20", "--sweep=K=2", "--sweep-replicates=3", "--output=run",
]  # fmt: skip
NO_VERDICT = "So nothing is said of bias, and no winner is named: figures are those of what was drawn."


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def failing(monkeypatch, owner, name, error, where):
    """The method fails in the second comparison where `where` says so."""
    once, seen = getattr(owner, name), []

    def method(self, *arguments):
        seen.append(self)
        if self is not seen[0] and where(*arguments):
            raise error
        return once(self, *arguments)

    monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize(
    "error, code, why",
    [
        (OSError("the disk is gone"), 2, "the run failed: the disk is gone"),
        (KeyboardInterrupt(), 130, "the run was interrupted (Ctrl-C)"),
    ],
)
def test_a_section_that_was_cut_short_has_no_verdict_and_the_one_before_keeps_its(
    error, code, why, monkeypatch, tmp_path, capsys
):
    failing(monkeypatch, Comparison, "_take_in", error, lambda x, number, draws: number == 1)
    assert main(WORDS) == code
    shown = capsys.readouterr().out
    finished, cut = shown.split("3 steps\n")
    assert " unbiased " in finished or " undecided <" in finished
    assert "Gradient of elbo: at equal work" in finished and NO_VERDICT not in finished
    assert "Unfinished: 30 of 60 gradients of each estimator were drawn." in cut and NO_VERDICT in cut
    assert "verdict: none, as the comparison was not finished." in cut
    for word in ("unbiased", "undecided", "biased:", "wins", "told apart;", "No estimator"):
        assert word not in cut
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"Unfinished: {why}" in page and f"Unfinished: {why}" in finished and NO_VERDICT in page
    with xr.open_dataset("run/gradients.nc", group="sigmoid-belief-net-3-steps", engine="h5netcdf") as data:
        assert set(data.verdict.values) == {"unfinished"} and "30 of 60" in data.attrs["unfinished"]
        assert data.attrs["ended"] == why
    with open("run/metrics.csv", newline="") as file:
        verdicts = {(row["checkpoint"], row["verdict"]) for row in csv.DictReader(file)}
    assert {verdict for checkpoint, verdict in verdicts if checkpoint == "3 steps"} == {"unfinished"}
    assert "unfinished" not in {verdict for checkpoint, verdict in verdicts if checkpoint == "fresh"}


def test_what_was_not_begun_is_named(monkeypatch, capsys):
    failing(monkeypatch, Comparison, "_prepare", OSError("the disk is gone"), lambda: True)
    assert main(WORDS) == 2
    shown = capsys.readouterr().out
    assert "Unfinished: the run failed: the disk is gone; not measured: sigmoid-belief-net, 3 steps." in shown
    assert "Gradient of elbo: at equal work" in shown and NO_VERDICT not in shown


def test_a_comparison_keeps_its_verdicts_if_the_sweep_alone_was_cut_short(monkeypatch, capsys):
    once = ParticleSweep._measure

    def interrupted(self, name, K, loss):
        if name == "score-function":
            raise KeyboardInterrupt
        return once(self, name, K, loss)

    monkeypatch.setattr(ParticleSweep, "_measure", interrupted)
    assert main([word for word in WORDS if not word.startswith("--steps")] + ["--steps=0"]) == 130
    shown = capsys.readouterr().out
    assert "Unfinished: signal-to-noise against K was measured for 1 of 2 pairs of estimator and K." in shown
    assert "Gradient of elbo: at equal work" in shown and NO_VERDICT not in shown


def test_a_run_that_was_finished_says_nothing_of_it(tmp_path, capsys):
    assert main(WORDS) == 0
    assert "nfinished" not in capsys.readouterr().out + (tmp_path / "run" / "report.html").read_text()


def test_sections_are_marked_by_what_is_missing():
    sections = [xr.Dataset(attrs={"program": "vae", "checkpoint": "fresh"})]
    (found,) = mark_interrupted(sections, [("vae", "fresh")], RuntimeError("no memory"))
    assert found.attrs["ended"] == "the run failed: no memory" and "ended" not in sections[0].attrs


@pytest.mark.slow
def test_ctrl_c_to_a_process_of_its_own(tmp_path):
    words = ["compare", "--estimators=rloo,score-function", "--steps=0", "--replicates=200000", "--compile=off"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pplvm", *words, "--minibatches=1", "--batch-size=20", "--output=run"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "MPLBACKEND": "agg"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip
    assert process.stderr is not None
    seen, deadline = "", time.monotonic() + 120
    while "replicates: " not in seen and time.monotonic() < deadline:
        seen += process.stderr.read(1)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "of 200000 gradients of each estimator were drawn." in shown and NO_VERDICT in shown
    assert "Unfinished: the run was interrupted (Ctrl-C)." in shown and "wins" not in shown
    with xr.open_dataset(tmp_path / "run" / "gradients.nc", engine="h5netcdf") as data:
        assert set(data.verdict.values) == {"unfinished"} and data.attrs["unfinished"].split("\n")[0] in shown
