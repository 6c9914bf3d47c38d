"""`pplvm compare` of programs with labels: typed, taken over from a run, and refusals in a sentence."""

import sys
from pathlib import Path

import pytest
import torch
import xarray as xr
import yaml

from pplvm.cli import main

STORY = """
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn


class Given(nn.Module):
    def __init__(self, data_size):
        super().__init__()
        self.prior, self.shift = nn.Embedding(10, 2), nn.Embedding(10, data_size)
        self.down, self.up, self.lift = nn.Linear(2, data_size), nn.Linear(data_size, 2), nn.Embedding(10, 2)

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            self.pixels(x, y)

    def pixels(self, x, y):
        z = pyro.sample("z", dist.Bernoulli(logits=self.prior(y)).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=self.down(z) + self.shift(y)).to_event(1), obs=x.flatten(1))

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.up(x.flatten(1)) + self.lift(y)).to_event(1))


class Guessed(Given):
    def __init__(self, data_size):
        super().__init__(data_size)
        self.classify = nn.Linear(data_size, 10)

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            prior = dist.Categorical(logits=x.new_zeros(10))
            self.pixels(x, pyro.sample("y", prior, obs=y.clamp(min=0), obs_mask=y >= 0))

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            with poutine.mask(mask=y < 0):
                guessed = pyro.sample("y_unobserved", dist.Categorical(logits=self.classify(x.flatten(1))))
            known = torch.where(y < 0, guessed, y)
            pyro.sample("z", dist.Bernoulli(logits=self.up(x.flatten(1)) + self.lift(known)).to_event(1))
"""
QUICK = ["--replicates=4", "--minibatches=1", "--batch-size=20", "--sweep=", "--output=out", "--overwrite"]


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pplvm", "compare"])
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    (tmp_path / "labelled.py").write_text(STORY)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
    sys.modules.pop("labelled", None)


def compare(*words):
    return main(["compare", "--estimators=rloo", *QUICK, *words])


def measured():
    with xr.open_dataset("out/gradients.nc", engine="h5netcdf") as data:
        return data.load()


def test_labels_reach_the_program(capsys):
    words = ["--program=labelled:Given", "--condition=labels", "--steps=2", "--estimators=rloo,exact"]
    assert compare(*words) == 0
    found = measured()
    assert set(found.reference.values) == {"exact"} and found.target.values.tolist() == ["elbo", "log p(x | labels)"]
    assert found.attrs["batch_size"] == 20
    assert {"prior.weight", "lift.weight"} <= set(found.group.values.tolist())
    assert float(found.group_variance.sel(group="lift.weight").sum()) > 0  # of the classes in the batch
    assert yaml.safe_load(Path("out/config.yaml").read_text())["condition"] == "labels"


def test_some_labels_are_known():
    words = ["--program=labelled:Guessed", "--condition=labels", "--known-labels=100", "--steps=2"]
    words.append("--estimators=rloo,exact")
    assert compare(*words) == 0
    found = measured()
    assert set(found.reference.values) == {"exact"} and (found.group_variance.sel(estimator="rloo") > 0).all()
    assert found.target.sel(estimator="exact").item() == "log p(x, labels where known)"
    assert found.verdict.sel(estimator="exact").item() == "unbiased"  # which draws nothing
    assert "given labels of 10 classes, 1,197 of 1,297 not known" in found.attrs["data_read"]


def test_a_runs_conditions_are_taken_over():
    words = ["--program=labelled:Guessed", "--condition=labels", "--known-labels=100", "--objective=rloo"]
    assert main(["fit", *words, "--steps=2", "--batch-size=20", "--compile=off", "--output=run"]) == 0
    assert compare("--checkpoint=run") == 0
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    assert config["condition"] == "labels" and config["known_labels"] == 100
    assert float(measured().group_variance.sel(group="classify.weight").sum()) > 0


@pytest.mark.parametrize(
    "words, told",
    [
        (["--program=labelled:Given"], "--condition"),
        (["--program=sigmoid-belief-net", "--condition=labels"], "--condition"),
        (["--program=labelled:Given", "--condition=masks"], "masks"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(words, told, capsys):
    assert compare(*words, "--steps=0") == 2
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said and len(said.splitlines()) == 1, said
