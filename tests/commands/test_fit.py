"""`pplvm fit`: what it leaves, that it goes on as if never stopped, and what it refuses."""

import itertools
import json
import os
import random
import signal
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pplvm.cli import main
from pplvm.plots.curves import save_curves
from pplvm.training.checkpoints import read_latest
from pplvm.training.early_stopping import EarlyStopping

DROPPING = """
    import torch
    from torch import nn
    from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

    class Dropping(SigmoidBeliefNet):
        '''A belief net whose data are dropped out on their way into the guide.'''

        def __init__(self, data_size, data_mean=None):
            super().__init__(data_size, (6, 5), data_mean=data_mean)
            self.dropout = nn.Dropout(0.2)
            self.norm = nn.BatchNorm1d(data_size)

        def guide(self, x):
            super().guide(self.norm(self.dropout(x.flatten(1))))
"""


@pytest.fixture(autouse=True)
def a_users_folder(known_state, tmp_path, monkeypatch):
    """The command as a user runs it: single precision, in a folder of their own, with a module in it."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("pplvm.plots.curves.save_curves", lambda records, path: path.write_text("most of a run's time"))
    name = f"dropping_{os.getpid()}_{abs(hash(str(tmp_path))) % 10**9}"
    Path(f"{name}.py").write_text(textwrap.dedent(DROPPING))
    yield f"{name}:Dropping"
    sys.modules.pop(name, None)
    torch.set_default_dtype(torch.float64)


def fit(*words):
    return main(["fit", "--batch-size=50", "--log-every=4", "--validate-every=10", "--save-every=5", *words])


def differing(one, other):
    """What differs between the checkpoints, metrics and settings of two runs."""
    names = ["model.safetensors", "state.pt", "manifest.json", "metrics.jsonl", "metrics.csv", "config.yaml"]
    return [name for name in names if (Path(one) / name).read_bytes() != (Path(other) / name).read_bytes()]


EVERYTHING = (
    "--binarize=dynamic", "--objective=nvil", "--average=0.9", "--warmup=7", "--schedule=cosine", "--clip=5",
    "--steps=23", "--keep=9",
)  # fmt: skip
"""Dropout, batch norm, dynamic binarization, a learned and a moving baseline, an average, a schedule, a clock."""


@pytest.fixture
def whole(a_users_folder):
    assert fit("--program", a_users_folder, *EVERYTHING, "--output=whole") == 0
    return Path("whole")


def test_two_runs_of_one_config_give_the_same_bytes(whole, a_users_folder):
    words = ["fit", "--config=whole/config.yaml", "--trust", a_users_folder.partition(":")[0]]
    np.random.rand()  # of a state that no process shares with another
    random.random()
    assert main([*words, "--output=again"]) == 0
    assert differing("whole", "again") == []
    assert main([*words, "--output=other", "--seed=1"]) == 0
    assert "model.safetensors" in differing("whole", "other")


@pytest.mark.parametrize("stop", [1, 9, 10, 22])
def test_a_resumed_run_is_bit_identical_to_one_that_never_stopped(whole, a_users_folder, stop, monkeypatch):
    stop_at(stop, monkeypatch)
    assert fit("--program", a_users_folder, *EVERYTHING, "--output=stopped") == 130
    assert read_latest(Path("stopped")).step == stop
    module = a_users_folder.partition(":")[0]
    assert main(["fit", "--resume=stopped", "--trust", module]) == 0
    assert differing("whole", "stopped") == []


@pytest.mark.slow
def test_aggressive_training_resumes_too(a_users_folder, monkeypatch):
    words = ["--program", a_users_folder, "--objective=rloo", "--aggressive", "--steps=28", "--seed=3"]
    assert fit(*words, "--output=whole") == 0
    stop_at(3, monkeypatch)
    assert fit(*words, "--output=stopped") == 130
    assert main(["fit", "--resume=stopped", "--trust", a_users_folder.partition(":")[0]]) == 0
    assert differing("whole", "stopped") == []
    state = read_latest(Path("whole")).state["parts"]["aggressive"]
    assert state["inner_steps"] > 28


def stop_at(step, monkeypatch):
    """Send SIGINT in the middle of a step."""
    from pplvm.training.run import Run

    advance = Run.advance

    def advance_and_interrupt(run):
        if run.step + 1 == step:
            signal.raise_signal(signal.SIGINT)
        return advance(run)

    monkeypatch.setattr(Run, "advance", advance_and_interrupt)


@pytest.mark.parametrize("tier", ["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_run_as_one_graph_is_the_eager_run(whole, a_users_folder, tier):
    assert fit(f"--program={a_users_folder}", *EVERYTHING, f"--compile={tier}", "--output=graph") == 0
    assert tier == "inductor" or not {"model.safetensors", "metrics.csv"} & set(differing(whole, "graph"))
    one, other = (read_latest(Path(run)).weights for run in (whole, "graph"))
    assert all(torch.allclose(other[name], value, rtol=1e-3, atol=1e-4) for name, value in one.items())


def test_what_a_run_leaves(a_users_folder, monkeypatch):
    monkeypatch.setattr("pplvm.plots.curves.save_curves", save_curves)
    assert fit("--program", a_users_folder, *EVERYTHING, "--output=whole") == 0
    whole = Path("whole")
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "config.yaml", "manifest.json", "metrics.jsonl", "metrics.csv", "model.safetensors", "state.pt", "checkpoints",
        "curves.png", "timing.json",
    }  # fmt: skip
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "bound" in line]
    assert [line["step"] for line in logged] == [4, 8, 12, 16, 20, 23]
    for line in logged:
        assert line["elbo"] == pytest.approx(-line["rate"] - line["distortion"])
        assert 0 < line["gradient_norm"] < 1e4
    assert [line["step"] for line in lines if "validation/bound" in line] == [10, 20, 23]
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["seed"] == 0 and len(manifest["data"]["sha256"]) == 64
    assert yaml.safe_load((whole / "config.yaml").read_text())["steps"] == 23
    assert (whole / "curves.png").stat().st_size > 10_000


def test_curves_and_table_grow_while_it_trains(a_users_folder, monkeypatch):
    from pplvm.training.run import Run

    monkeypatch.setattr("pplvm.commands.runs.run_files.PAUSE", 0.0)
    monkeypatch.setattr("pplvm.commands.runs.run_files.SHARE", float("inf"))
    monkeypatch.setattr("pplvm.plots.curves.save_curves", save_curves)
    seen, advance = {}, Run.advance

    def advance_and_look(run):
        if run.step == 14:
            seen["curves"] = Path("live/curves.png").read_bytes()
            seen["rows"] = Path("live/metrics.csv").read_text().splitlines()
        return advance(run)

    monkeypatch.setattr(Run, "advance", advance_and_look)
    assert fit("--program", a_users_folder, *EVERYTHING, "--output=live") == 0
    assert seen["curves"].startswith(b"\x89PNG") and seen["curves"] != Path("live/curves.png").read_bytes()
    assert [line.split(",")[0] for line in seen["rows"]] == ["step", "4", "8", "10", "12"]
    assert "validation/bound" in seen["rows"][0]
    monkeypatch.setattr("pplvm.commands.runs.run_files.PAUSE", 1e9)
    assert fit("--program", a_users_folder, *EVERYTHING, "--output=late") == 0
    assert Path("live/curves.png").read_bytes() == Path("late/curves.png").read_bytes()
    assert differing("live", "late") == []
    assert not [path for path in Path("live").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_curves_are_drawn_rarely_so_that_they_cost_little(a_users_folder, monkeypatch):
    """The clock stands where drawing takes a second and each look at it another one."""
    from types import SimpleNamespace

    clock, drawn = [0.0], []

    def draw(records, path):
        drawn.append(clock[0])
        clock[0] += 1.0
        path.write_text("curves")

    def now():
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr("pplvm.commands.runs.run_files.time", SimpleNamespace(monotonic=now))
    monkeypatch.setattr("pplvm.plots.curves.save_curves", draw)
    words = ["--steps=300", "--validate-every=1", "--log-every=1", "--save-every=300", "--set=latent_sizes=2,"]
    assert main(["fit", "--program=sigmoid-belief-net", *words, "--compile=off", "--output=run"]) == 0
    assert drawn[0] >= 10 and all(b - a > 30 for a, b in zip(drawn[:-2], drawn[1:-1], strict=True)), drawn
    assert 5 <= len(drawn) <= 20


@pytest.mark.parametrize(
    "words, stop, first, commands",
    [
        (
            (), None, "done; 23 steps",
            ["evaluate run --weights best", "fit --resume run --steps 46"],
        ),
        ((), 12, "stopped by", ["fit --resume run", "evaluate run --weights best"]),
        (
            ("--early-stop=1", "--validate-every=2"), None, "stopped early",
            ["evaluate run --weights best", "fit --resume run --early-stop 2"],
        ),
    ],
)  # fmt: skip
def test_it_ends_with_figures_and_the_next_commands(a_users_folder, monkeypatch, capsys, words, stop, first, commands):
    if stop:
        stop_at(stop, monkeypatch)
    if "--early-stop=1" in words:  # which sees the loss rise
        observe, rising = EarlyStopping.observe, itertools.count()
        monkeypatch.setattr(EarlyStopping, "observe", lambda self, loss: observe(self, loss + 1000 * next(rising)))
    code = fit("--program", a_users_folder, "--steps=23", *words, "--output=run")
    shown = capsys.readouterr()
    assert code == (130 if stop else 0) and shown.err.splitlines()[-1].startswith(first)
    module = a_users_folder.partition(":")[0]
    lines = shown.out.splitlines()
    assert [line.split("pplvm ")[1].replace(module, "M") for line in lines if "pplvm " in line] == commands
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    best = max((r for r in records if "validation/bound" in r), key=lambda r: r["validation/bound"])
    assert f"{best['validation/bound']:.2f} nats at step {best['step']}" in lines[2]
    last = [record for record in records if "bound" in record][-1]
    assert lines[0].startswith("training bound") and f"{last['bound']:.2f} nats, mean of steps" in lines[0]
    for line in lines:
        assert len(line) <= 80 or "pplvm" in line
    if not stop:
        assert main(["evaluate", *commands[0].replace("M", module).split()[1:], "--limit=3", "--ks=1,2"]) == 0
