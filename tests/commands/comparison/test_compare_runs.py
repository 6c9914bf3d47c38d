"""`pplvm compare --checkpoint RUN`: program, data and weights come from a run, and refusals are told."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

import pplvm
from pplvm.cli import main

OWN = """
import pplvm
class Story(pplvm.SigmoidBeliefNet):
    pass
"""

FEW = ["--steps=4", "--save-every=2", "--batch-size=9", "--compile=off", "--objective=rloo"]
SET = "--set=latent_sizes=(3,)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of a belief net on data of one's own, two alike, and one on other data; one of another program."""
    folder, before = tmp_path_factory.mktemp("compared"), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    grey = (np.random.default_rng(0).random((60, 9)) * 255).astype(np.uint8)
    np.savez(folder / "nine.npz", x=grey, y=1 - grey)
    data = [f"--data={folder / 'nine.npz'}", "--binarize=dynamic"]
    net = ["fit", "--program=sigmoid-belief-net", SET, *FEW]
    assert main([*net, *data, "--key=x", f"--output={folder / 'a'}"]) == 0
    assert main([*net, *data, "--key=x", "--seed=1", f"--output={folder / 'b'}"]) == 0
    assert main([*net, *data, "--key=y", f"--output={folder / 'y'}"]) == 0
    vae = ["fit", "--program=vae", "--set=latent_size=2", *FEW[:-1], *data, "--key=x"]
    assert main([*vae, f"--output={folder / 'vae'}"]) == 0
    torch.set_default_dtype(before)
    return folder


@pytest.fixture(autouse=True)
def as_a_user(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["pplvm", "compare"])
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("net_of_mine", None)


def compare(*words):
    few = ["--estimators=rloo", "--replicates=4", "--minibatches=1", "--sweep=", "--output=out", "--overwrite"]
    return main(["compare", *few, *words])


def refused(capsys, *words):
    capsys.readouterr()
    assert compare(*words) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1, told
    return told


def test_program_data_and_weights_come_from_the_run(trained, capsys):
    assert compare("--checkpoint=a") == 0
    assert "--checkpoint a: the weights of step 4" in capsys.readouterr().err
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    expected = {"program": "sigmoid-belief-net", "set": SET[6:], "key": "x", "binarize": "dynamic"}
    assert {name: config[name] for name in expected} == expected | {"set": [SET[6:]]}
    assert config["data"] == str(trained / "nine.npz") and config["checkpoint"] == ["a"] and config["steps"] == []
    torch.save(pplvm.load("a").program.state_dict(), "a.pt")
    by_run = xr.open_dataset("out/gradients.nc")["variance"].values
    typed = ["--program=sigmoid-belief-net", SET, f"--data={trained / 'nine.npz'}", "--key=x", "--binarize=dynamic"]
    assert compare("--checkpoint=a.pt", *typed) == 0
    assert np.array_equal(by_run, xr.open_dataset("out/gradients.nc")["variance"].values)


@pytest.mark.slow
def test_several_runs_and_files_stand_in_one_report():
    torch.save(pplvm.load("a").program.state_dict(), "a.pt")
    assert compare("--checkpoint=a", "--checkpoint=b", "--checkpoint=a/checkpoints/00000002", "--checkpoint=a.pt") == 0
    found = {}
    for folder in Path("out").glob("*/"):
        group = xr.open_dataset("out/gradients.nc", group=folder.name)
        found[group.attrs["checkpoint"]] = float(group["variance"].sum())
    assert list(sorted(found)) == ["a", "a.pt", "a/checkpoints/00000002", "b"]
    assert found["a"] == found["a.pt"] and len(set(found.values())) == 3


def test_what_is_typed_goes_before(trained):
    assert compare("--checkpoint=a", "--checkpoint=y", "--key=y") == 0
    assert yaml.safe_load(Path("out/config.yaml").read_text())["key"] == "y"
    assert compare("--checkpoint=a", "--program=sigmoid-belief-net", "--binarize=static") == 0
    assert yaml.safe_load(Path("out/config.yaml").read_text())["binarize"] == "static"


def test_runs_that_differ_are_told(capsys):
    told = refused(capsys, "--checkpoint=a", "--checkpoint=y")
    assert "--checkpoint a and y differ in key, x and y: type --key, or compare them one by one" in told
    assert "--checkpoint a and vae differ in program" in refused(capsys, "--checkpoint=a", "--checkpoint=vae")


def test_a_run_of_another_program_is_told(capsys):
    told = refused(capsys, "--checkpoint=a", "--program=vae")
    assert "--checkpoint a is a run of sigmoid-belief-net, and --program is vae: leave --program out" in told


def test_what_is_no_run_is_told(capsys):
    Path("empty").mkdir()
    assert "--checkpoint empty is a folder that pplvm fit did not write" in refused(capsys, "--checkpoint=empty")
    assert "--checkpoint none: there is no such file" in refused(capsys, "--checkpoint=none")
    shutil.rmtree("a/checkpoints/00000004")
    shutil.copytree("b/checkpoints/00000004", "a/checkpoints/00000004")
    told = refused(capsys, "--checkpoint=a/checkpoints/00000004")
    assert "--checkpoint a/checkpoints/00000004 is another run's" in told
    assert compare("--checkpoint=a") == 0
    told = capsys.readouterr().err
    assert "a/checkpoints/00000004 is another run's" in told and "--checkpoint a: the weights of step 2" in told


def test_code_of_ones_own_is_trusted_once_and_a_strangers_is_not(capsys):
    Path("net_of_mine.py").write_text(OWN)
    words = [
        "fit",
        "--program=net_of_mine.py",
        SET,
        *FEW,
        "--data=nine.npz",
        "--key=x",
        "--binarize=static",
        "--output=own",
    ]
    assert main(words) == 0
    assert compare("--checkpoint=own") == 0 and compare("--checkpoint=own", "--program=net_of_mine.py") == 0
    shutil.copytree("own", "given", symlinks=True)
    assert "if you trust it, add --trust net_of_mine" in refused(capsys, "--checkpoint=given")
    assert compare("--checkpoint=given", "--trust=net_of_mine") == compare("--checkpoint=given") == 0
