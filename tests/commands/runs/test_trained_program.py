"""What is judged is the run's own latest checkpoint, or the command says what it took instead and why."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.cli import main

FIT = ["fit", "--program=sigmoid-belief-net", "--set=latent_sizes=(2,)", "--objective=rloo", "--steps=4"]
FIT += ["--save-every=2", "--validate-every=4", "--compile=off", "--batch-size=20"]
JUDGE = {
    "evaluate": ["evaluate", "mine", "--limit=5", "--ks=1", "--annealed=0", "--output=judged", "--overwrite"],
    "sample": ["sample", "mine", "--count=2", "--output=judged", "--overwrite"],
}
THEIRS = (
    "is another run's, of pplvm.programs.sigmoid_belief:SigmoidBeliefNet under LeaveOneOut(elbo, num_particles=4, "
    "mean=geometric), "
)
TAKEN = "mine/checkpoints/00000002, step 2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs that differ in their seeds alone, each with checkpoints of steps 2 and 4."""
    folder, before = tmp_path_factory.mktemp("trained"), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    for name, seed in (("mine", 0), ("theirs", 1)):
        assert main([*FIT, f"--seed={seed}", f"--output={folder / name}"]) == 0
    torch.set_default_dtype(before)
    return folder


@pytest.fixture(autouse=True)
def as_a_user(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path / "runs")
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    monkeypatch.setattr("pplvm.commands.evaluate.evaluation_page", lambda *unused: "")
    monkeypatch.setattr(sys, "argv", ["pplvm", "evaluate"])
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def damaged():
    Path("mine/checkpoints/00000004/state.pt").write_bytes(b"no state")
    return "mine/checkpoints/00000004/state.pt is cut short"


def lost():
    Path("mine/checkpoints/00000004/model.safetensors").unlink()
    return "mine/checkpoints/00000004/model.safetensors is missing"


def copied():
    shutil.rmtree("mine/checkpoints/00000004")
    shutil.copytree("theirs/checkpoints/00000004", "mine/checkpoints/00000004")
    return f"mine/checkpoints/00000004 {THEIRS}seed 1"


def linked():
    shutil.rmtree("mine/checkpoints/00000004")
    Path("mine/checkpoints/00000004").symlink_to(Path("theirs/checkpoints/00000004").resolve())
    return f"mine/checkpoints/00000004 {THEIRS}seed 1"


def astray():
    shutil.rmtree("mine/checkpoints/00000004")
    relink("latest", "../../theirs/checkpoints/00000002")
    return "mine/checkpoints/latest leads to ../../theirs/checkpoints/00000002, which is no checkpoint of this run"


def relink(name, target):
    Path("mine/checkpoints", name).unlink()
    os.symlink(target, Path("mine/checkpoints", name))


@pytest.mark.parametrize(
    ("command", "spoil"),
    [("evaluate", damaged), ("evaluate", copied), ("sample", lost), ("sample", astray), ("sample", linked)],
)
def test_an_older_checkpoint_is_taken_with_a_word(command, spoil, capsys):
    why = spoil()
    assert main(JUDGE[command]) == 0
    told = capsys.readouterr().err
    assert why in told and "taken instead: " in told and TAKEN in told
    if command == "evaluate":
        assert why in json.loads(Path("judged/evaluation.json").read_text())["circumstances"]["newer checkpoints"]


def test_nothing_is_told_of_the_latest(capsys):
    assert main(JUDGE["sample"]) == 0
    assert "instead" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "spoil", "why"),
    [
        (["--weights=best"], lambda: relink("best", "../../theirs/checkpoints/00000004"), "which is no checkpoint of"),
        (["--weights=best"], copied, THEIRS),
        ([], lambda: [shutil.rmtree("mine/checkpoints/00000002"), copied()], "no checkpoint of mine can be read"),
    ],
)
def test_another_runs_is_never_judged_as_this_ones(words, spoil, why, capsys):
    spoil()
    assert main([*JUDGE["sample"], *words]) == 2
    assert why in capsys.readouterr().err and not Path("judged").exists()


def test_resume_tells_and_goes_on_from_its_own(capsys):
    why = copied()
    assert main(["fit", "--resume=mine", "--steps=5"]) == 0
    assert why in capsys.readouterr().err
    names = ("mine", "theirs")
    mine, theirs = (json.loads(Path(name, "manifest.json").read_text()) for name in names)
    assert mine["seed"] == 0 and mine["step"] == 5 and mine["run"] != theirs["run"]


def test_a_run_resumed_with_other_settings_stays_the_same_run(capsys):
    assert main(["fit", "--resume=mine", "--steps=5", "--seed=9", "--learning-rate=0.01"]) == 0
    (Path("mine/checkpoints/00000005/state.pt")).unlink()
    assert main(JUDGE["sample"]) == 0  # step 4 has another seed in its manifest, and the run's name
    assert "mine/checkpoints/00000004, step 4" in capsys.readouterr().err


def test_a_run_older_than_levels_says_where_to_write_them(capsys):
    pixels = np.random.default_rng(0).integers(0, 100, (40, 9), dtype=np.uint8)
    np.save("dark.npy", pixels)
    assert main([*FIT, "--data=dark.npy", "--levels=256", "--binarize=dynamic", "--output=old"]) == 0
    config = Path("old/config.yaml")
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith(("levels:", "values:"))))
    judge = ["evaluate", "old", "--split=valid", "--ks=1"]
    capsys.readouterr()
    assert main(judge) == 2
    told = capsys.readouterr().err
    assert "this run is older than --levels: say it in old/config.yaml, as levels: 256" in told
    config.write_text(config.read_text() + "levels: 256\n")
    assert main(judge) == 0


LAZY = """
from torch import nn
from pplvm.programs.vae import VAE

class Lazy(VAE):
    def __init__(self, data_size):
        super().__init__(data_size, 2, (4,))
        self.encoder = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(affine=False), nn.Linear(5, 4))
"""


def test_parameters_made_on_a_first_batch_are_made_of_one_datum_where_batches_are_normalized(monkeypatch):
    monkeypatch.setattr(sys, "path", [".", *sys.path])
    Path("lazily_made.py").write_text(LAZY)
    words = ["--program=lazily_made:Lazy", "--steps=2", "--batch-size=20", "--compile=off", "--output=lazy"]
    assert main(["fit", *words]) == 0
    assert main(["sample", "lazy", "--count=2", "--trust=lazily_made", "--output=judged"]) == 0
    sys.modules.pop("lazily_made", None)
