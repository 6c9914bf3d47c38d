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
SUBJECTS = {name: words for name, words in SUBJECTS.items() if name in PROGRAMS}


def subjects(*quick):
    """All of them, slow but for these."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in SUBJECTS]


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


@pytest.mark.parametrize("name", subjects("hyperspherical-vae", "conv-hierarchical-vae", "dequantized-flow"))
def test_a_resumed_run_is_bit_identical(name):
    assert main(["check", name, *SUBJECTS[name]]) == 0
    words = ["--program", name, *SUBJECTS[name], "--steps=3", "--compile=off"]
    assert fit(*words, "--output=whole") == 0
    with interrupted(2):
        assert fit(*words, "--output=stopped") == 130
    assert fit("--resume", "stopped") == 0
    assert not [name for name in FILES if (Path("whole") / name).read_bytes() != (Path("stopped") / name).read_bytes()]


@pytest.mark.parametrize("name", subjects("hyperspherical-vae"))
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


def test_check_calls_a_flow_a_flow(capsys):
    assert main(["check", "vlae"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["flow", "of", "Normal"] in [row[2:5] for row in rows if row[:2] == ["model", "z"]]
    assert ["Normal"] in [row[2:3] for row in rows if row[:2] == ["guide", "z"]]


OF_WRONG_SIZE = """
import torch
from torch import nn
from pplvm.networks.dense import MLP
from pplvm.programs.autoregressive_flows import AutoregressiveFlowPrior, IAFPosterior
from pplvm.programs.coupling_flows import CouplingPrior
from pplvm.programs.dequantized_flow import DequantizedFlow, LevelsFlow
from pplvm.programs.dequantizers import UniformDequantizer
from pplvm.programs.vae import VAE

def dequantizer(data_size):
    return DequantizedFlow(LevelsFlow((data_size,), 17), UniformDequantizer(data_size - 1), 17)

def coupling(data_size):
    return VAE(data_size, latent_size=4, prior=CouplingPrior(3))

def autoregressive(data_size):
    return VAE(data_size, latent_size=4, prior=AutoregressiveFlowPrior(3))

def inverse(data_size):
    encoder = nn.Sequential(nn.Flatten(1), MLP(data_size, 2 * 3 + 5))
    return VAE(data_size, latent_size=4, encoder=IAFPosterior(encoder, latent_size=3, context_size=5))
"""
LOGISTIC = "--set=likelihood=discretized-logistic"
ODD = ("--data=odd.npz", "--levels=4", "--binarize=none")
REAL = "--data=real.npz"


@pytest.mark.parametrize(
    "words, told",
    [
        (("dequantized-flow", *ODD), "5 x 5 have no 2 x 2 blocks to squeeze: pad them"),
        (("dequantized-flow", *GREY, "--set=num_couplings=3"), "num_couplings must be a positive even number"),
        (("flow-prior-vae", "--set=num_couplings=3"), "num_couplings must be a positive even number"),
        (("flow-prior-vae", "--set=latent_size=1"), "latent_size must be at least 2 for a coupling"),
        (("vae", *GREY, LOGISTIC, "--set=levels=5"), "17 grey levels in [0, 1], but site 'x' is a DiscretizedLog"),
        (("dequantized-flow", *GREY, "--set=levels=5"), "17 grey levels in [0, 1], but site 'x' is a Floor"),
        (("hierarchical-vae", *GREY), "17 grey levels in [0, 1], but site 'x' is a Bernoulli"),
        (("delta-vae", REAL, LOGISTIC), "levels is not known"),
        (("dequantized-flow", REAL), "real data have no levels"),
        (("hyperspherical-vae", "--set=concentration=0"), "concentration (kappa) must be positive, got 0"),
        (("hyperspherical-vae", "--set=concentration=-2"), "concentration (kappa) must be positive, got -2"),
        (("delta-vae", "--set=alpha=1"), "alpha must lie in (0, 1), got 1"),
        (("delta-vae", "--set=alpha=-0.5"), "alpha must lie in (0, 1), got -0.5"),
        (("sizes:coupling",), "site 'z' has event shape (4,) in the guide and (3,) in the model: make them equal"),
        (
            ("sizes:autoregressive",),
            "site 'z' has event shape (4,) in the guide and (3,) in the model: make them equal",
        ),
        (("sizes:dequantizer", *GREY), "the dequantizer gives noise of event shape (63,), and a datum has shape (64,)"),
        (("sizes:inverse",), "site 'z' has event shape (3,) in the guide and (4,) in the model: make them equal"),
    ],
    ids=lambda found: " ".join(found).replace("--set=", "") if isinstance(found, tuple) else "",
)
def test_bad_input_is_told_in_one_sentence_before_anything_is_trained(words, told, capsys):
    for name, values in (("odd", np.arange(750).reshape(30, 5, 5) % 4), ("real", np.random.randn(30, 6))):
        np.savez(f"{name}.npz", x_train=values[:20], x_test=values[20:])
    name = f"of_sizes_{abs(hash(str(Path.cwd()))) % 10**9}"
    Path(f"{name}.py").write_text(OF_WRONG_SIZE)
    program, *others = words
    assert fit("--program", program.replace("sizes", name), *others, "--steps=2", "--output=run") == 2
    found = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pplvm fit: ")]
    assert len(found) == 1 and told in found[0] and not Path("run").exists()
    assert "torch.Size" not in found[0] and "size of tensor" not in found[0]
