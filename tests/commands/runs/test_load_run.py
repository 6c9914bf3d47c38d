"""`pplvm.load` gives what was trained, weights, bound and data, and refuses as the commands do."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import pplvm
from pplvm.cli import main
from pplvm.training.checkpoints import read_checkpoint

FIT = ["fit", "--set=latent_sizes=(3,)", "--steps=6", "--save-every=2", "--validate-every=2", "--compile=off"]
FIT += ["--program=sigmoid-belief-net", "--batch-size=20", "--keep=9"]

OWN = """
import pplvm
class Story(pplvm.VAE):
    pass
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("loaded"), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    assert main([*FIT, "--objective=relax", f"--output={folder / 'mine'}"]) == 0
    assert main([*FIT, "--objective=rloo", "--average=0.5", "--binarize=dynamic", f"--output={folder / 'mean'}"]) == 0
    torch.set_default_dtype(before)
    return folder


@pytest.fixture(autouse=True)
def as_a_user(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path / "runs")
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("mine_own", None)


def test_the_program_has_the_weights_of_the_checkpoint():
    for weights, link in (("latest", "latest"), ("best", "best")):
        run = pplvm.load("mine", weights=weights)
        saved = read_checkpoint(Path("mine/checkpoints", link))
        assert run.step == saved.step and run.checkpoint.samefile(saved.path)
        assert saved.weights.keys() == run.program.state_dict().keys()
        assert all(torch.equal(value, saved.weights[name]) for name, value in run.program.state_dict().items())
    assert not run.program.training and not run.loss.training


def test_the_objective_is_the_one_trained_with_what_it_has_learned():
    run = pplvm.load("mine")
    assert isinstance(run.objective, pplvm.RELAX) and run.loss.program is run.program
    state = read_checkpoint(Path("mine")).state["parts"]["stepper"]["loss"]
    learned = {name: value for name, value in state.items() if name.startswith("control.")}
    assert learned and all(torch.equal(run.loss.state_dict()[name], value) for name, value in learned.items())


def test_the_loss_is_the_one_that_was_recorded():
    """At the last validation, with the noise that it had."""
    from pplvm.data.batches import batches
    from pplvm.training.random_state import seeded

    for name in ("mine", "mean"):  # the second validates running averages of the weights
        run = pplvm.load(name)
        lines = [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
        recorded = [line["validation/bound"] for line in lines if "validation/bound" in line][-1]
        valid, found = run.data("valid"), 0.0
        with seeded(0), torch.no_grad():
            for x in batches(valid, 20, shuffle=False):
                found += float(run.loss(x)) * len(x) / len(valid)
        assert -found == pytest.approx(recorded, rel=1e-5)


def test_data_keep_their_promise():
    run = pplvm.load("mean")
    assert run.spec.shape == (8, 8) and run.spec.binarization == "dynamic" and run.settings["binarize"] == "dynamic"
    assert [len(run.data(split)) for split in ("train", "valid", "test")] == [1297, 200, 300]
    assert run.data().spec.size == 300
    with pytest.raises(ValueError, match="no split 'tset'"):
        run.data("tset")


def test_it_says_what_it_is():
    run = pplvm.load("mine")
    assert repr(run).startswith(
        "LoadedRun(mine: sigmoid-belief-net latent_sizes=(3,) under RELAX, step 6; data digits (8, 8)"
    )
    for word in ("sigmoid-belief-net latent_sizes=(3,)", "RELAX", "digits", "save_every"):
        assert word in run._repr_html_()


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ({"run": "nowhere"}, FileNotFoundError, "there is no directory nowhere"),
        ({"run": "mine", "weights": "last"}, ValueError, "weights must be 'latest' or 'best', got 'last'"),
        ({"run": "mine", "device": "cuda:77"}, ValueError, "cannot be used"),
    ],
)
def test_bad_input_is_told(words, error, told):
    with pytest.raises(error, match=told):
        pplvm.load(**words)


def test_a_damaged_checkpoint_is_left_for_an_older_one(capsys):
    Path("mine/checkpoints/00000006/state.pt").write_bytes(b"no state")
    assert pplvm.load("mine").step == 4
    assert "taken instead" in capsys.readouterr().err


def test_code_of_ones_own_is_trusted_as_by_the_commands():
    Path("mine_own.py").write_text(OWN)
    assert main(["fit", "--program=mine_own.py", "--steps=1", "--output=own"]) == 0
    assert type(pplvm.load("own").program).__name__ == "Story"
    shutil.copytree("own", "given", symlinks=True)
    with pytest.raises(ValueError, match='if you trust it, pass trust="mine_own"'):
        pplvm.load("given")
    assert pplvm.load("given", trust="mine_own").step == pplvm.load("given").step == 1
