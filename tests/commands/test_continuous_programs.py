"""Each program with continuous latents from the command line, on the digits, with no other setting than it needs."""

import json
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.catalog import PROGRAMS
from pplvm.cli import main
from pplvm.training.run import Run

FILES = ("model.safetensors", "metrics.jsonl", "metrics.csv", "state.pt", "config.yaml", "manifest.json")
GREY = ("--binarize=none",)
SUBJECTS = {
    "vae": (),
    "conv-vae": (),
    "hierarchical-vae": (),
    "conv-hierarchical-vae": (),
    "iaf-vae": (),
    "vamp-vae": (),
    "flow-prior-vae": (),
    "vlae": (),
    "delta-vae": (),
    "hyperspherical-vae": (),
    "dequantized-flow": GREY,
}
"""Names, each with what it is told of the data."""
QUICK = ("hyperspherical-vae",)
SUBJECTS = {name: words for name, words in SUBJECTS.items() if name in PROGRAMS}


@pytest.fixture(autouse=True)
def a_users_folder(known_state, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    yield
    torch.set_default_dtype(torch.float64)


def fit(*words):
    return main(["fit", "--batch-size=20", "--log-every=1", "--validate-every=3", "--save-every=2", *words])


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


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_resumed_run_is_bit_identical(name):
    assert main(["check", name, *SUBJECTS[name]]) == 0
    words = ["--program", name, *SUBJECTS[name], "--steps=3", "--compile=off"]
    assert fit(*words, "--output=whole") == 0
    with interrupted(2):
        assert fit(*words, "--output=stopped") == 130
    assert fit("--resume", "stopped") == 0
    assert not [name for name in FILES if (Path("whole") / name).read_bytes() != (Path("stopped") / name).read_bytes()]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SUBJECTS]
)
def test_it_is_judged_drawn_from_and_compared(name, capsys):
    words = SUBJECTS[name]
    assert fit("--program", name, *words, "--steps=2", "--compile=off", "--output=run") == 0
    assert main(["evaluate", "run", "--ks=1,5", "--limit=20", "--compile=off"]) == 0
    told = json.loads(Path("run/evaluation-test/evaluation.json").read_text())
    figures = [figure["value"] for figure in told["figures"]["likelihood"]]
    assert figures and np.isfinite(figures).all()
    assert main(["sample", "run", "--count=5"]) == 0
    drawn = np.load("run/samples/samples.npz")["draw"]
    assert drawn.size == 5 * 64 and drawn.min() >= 0 and drawn.max() <= 1
    assert set(np.unique(drawn * (16 if words else 1) % 1)) == {0.0}  # on the levels of the data
    few = ["--replicates=4", "--minibatches=1", "--sweep=", "--batch-size=10", "--reference-draws=20", "--steps=0"]
    capsys.readouterr()
    assert main(["compare", "--program", name, *words, "--estimators=pathwise,iwae", *few]) == 0
    assert "pathwise" in capsys.readouterr().out
