"""The six programs under every verb of the command line, eager and as a graph, stopped and resumed bit by bit."""

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.cli import main
from pplvm.training.run import Run
from tests.seams import programs

FILES = ("model.safetensors", "metrics.jsonl", "metrics.csv", "state.pt", "config.yaml", "manifest.json")
LABELS = ("--data=labels.npz", "--condition=labels")
PLAIN = ("--data=labels.npz",)
SUBJECTS = {
    "semi-supervised": ("SemiSupervised", (*LABELS, "--known-labels=30"), "rloo,score-function"),
    "conditional": ("Conditional", LABELS, "pathwise,analytic-kl"),
    "penalties": ("Penalized", (*PLAIN, "--objective={}:with_penalties"), "pathwise,analytic-kl"),
    "convolutional": ("Convolutional", ("--objective=iwae", "--particles=50"), "iwae,dreg"),
    "without latents": ("WithoutLatents", PLAIN, None),
}
NAMES = {"semi-supervised": "log p(x, labels)", "conditional": "log p(x | labels)"}
OTHER_NAMES = ("elbo", "effective sample size", "k-hat", "bits/dim", "density")


@pytest.fixture
def module(known_state, tmp_path, monkeypatch):
    """A user's folder with their programs and data, at single precision; the name of the module."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("pplvm.plots.curves.save_curves", lambda records, path: path.write_text("most of a run's time"))
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    name = f"seams_{os.getpid()}_{abs(hash(str(tmp_path))) % 10**9}"
    Path(f"{name}.py").write_text(Path(programs.__file__).read_text())
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 120), ("valid", 20), ("test", 20)):
        y = random.integers(0, 3, count)
        x = np.eye(3, 4)[y] * 3 + random.normal(size=(count, 2)) @ [[0.5, 0, 1, 0], [0, 0.5, 0, 1]]
        arrays |= {f"x_{split}": (x + 0.5 * random.normal(size=x.shape)).astype("f4"), f"y_{split}": y}
    np.savez("labels.npz", **arrays)
    yield name
    sys.modules.pop(name, None)
    torch.set_default_dtype(torch.float64)


def fit(*words):
    often = ("--batch-size=20", "--log-every=1", "--validate-every=4", "--save-every=3")
    return main(["fit", *often, *words])


@contextmanager
def interrupted(step):
    """A signal in the middle of a step, after which a run finishes it, saves and ends."""
    advance = Run.advance

    def advance_and_interrupt(run):
        if run.step + 1 == step:
            signal.raise_signal(signal.SIGINT)
        return advance(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "advance", advance_and_interrupt)
        yield


def differing(one, other, names=FILES):
    return [name for name in names if (Path(one) / name).read_bytes() != (Path(other) / name).read_bytes()]


def some_slow(*slow):
    """The six, of which some take too long for every run."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in SUBJECTS]


def chosen(subject, module):
    program, words, estimators = SUBJECTS[subject]
    return f"{module}:{program}", [word.format(module) for word in words], estimators


@pytest.mark.parametrize("subject", some_slow("convolutional"))
def test_fit_eager_and_as_a_graph_stopped_and_resumed(subject, module):
    program, words, _ = chosen(subject, module)
    data = [word for word in words if word.startswith(("--data", "--condition", "--known"))]
    assert main(["check", program, *data]) == 0
    for tier in ("off", "graph"):
        run = [f"--program={program}", *words, f"--compile={tier}"]
        assert fit(*run, "--steps=8", f"--output={tier}") == 0
    with interrupted(5):
        assert fit(*run, "--steps=8", "--output=stopped") == 130
    assert fit("--resume", "stopped", f"--trust={module}") == 0
    assert not differing("graph", "stopped") and not differing("off", "graph", FILES[:3])
    records = [json.loads(line) for line in Path("graph/metrics.jsonl").read_text().splitlines()]
    if subject == "penalties":
        steps = [record for record in records if "penalty_far" in record]
        assert len(steps) >= 8 and all("penalty_wide" in record for record in steps)


@pytest.mark.parametrize("subject", some_slow("convolutional", "penalties", "conditional"))
def test_judge_draw_and_compare(subject, module, capsys, monkeypatch, request):
    program, words, estimators = chosen(subject, module)
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    assert fit(f"--program={program}", *words, "--steps=6", "--output=run") == 0
    assert main(["evaluate", "run", "--ks=1,10", f"--trust={module}", "--compile=off"]) == 0
    told = json.loads(Path("run/evaluation-test/evaluation.json").read_text())
    names = [figure["name"] for figure in told["figures"]["likelihood"]]
    assert all(name.startswith((NAMES.get(subject, "log p(x)"), *OTHER_NAMES)) for name in names), names
    assert subject != "semi-supervised" or not any("bits" in name or "density" in name for name in names), names
    assert main(["sample", "run", "--count=12", f"--trust={module}"]) == 0
    drawn = np.load("run/samples/samples.npz")["draw"]
    assert drawn.shape == ((12, 1, 8, 8) if subject == "convolutional" else (12, 4)) and np.isfinite(drawn).all()
    few = ["--replicates=6", "--minibatches=1", "--sweep=", "--batch-size=10"]
    capsys.readouterr()
    if estimators is None:
        assert main(["compare", "--checkpoint=run", *few, f"--trust={module}"]) == 2
        assert "no latents" in capsys.readouterr().err
        return
    assert main(["compare", "--checkpoint=run", f"--estimators={estimators}", *few, f"--trust={module}"]) == 0
    assert all(name in capsys.readouterr().out for name in [estimators.partition(",")[0]])


@pytest.mark.slow  # `commands/building/test_stages.py` resumes one quickly, and `test_python.py` as a graph
def test_a_second_stage_trains_one_part_of_the_first(module, capsys):
    words = [f"--program={module}:TwoStages", *PLAIN, "--steps=6"]
    assert fit(*words, "--output=first") == 0
    second = [*words, "--set=learned_prior=True", "--initial=first", "--train=prior", f"--trust={module}"]
    for tier in ("off", "graph"):
        assert fit(*second, f"--compile={tier}", f"--output={tier}") == 0
    with interrupted(4):
        assert fit(*second, "--compile=off", "--output=stopped") == 130
    assert fit("--resume", "stopped", f"--trust={module}") == 0
    assert not differing("off", "stopped") and not differing("off", "graph", FILES[:3])
    first, last = (weights(name) for name in ("first", "graph"))
    assert set(last) - set(first) == {"prior.loc", "prior.log_scale"}
    assert all(torch.equal(last[name], value) for name, value in first.items())
    assert last["prior.loc"].abs().min() > 0
    capsys.readouterr()
    assert main(["evaluate", "graph", "--ks=1,10", f"--trust={module}", "--compile=off"]) == 0


def weights(run):
    from safetensors.torch import load_file

    return load_file(Path(run) / "model.safetensors")
