"""A program of labels, from the command line: judged, drawn from and loaded with them, under names that say so."""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import pplvm
from pplvm.cli import main
from pplvm.commands.sample_request import sample_request

MODULE = """
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn


class Conditional(nn.Module):
    def __init__(self, data_size, num_classes):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(2, data_size), nn.Linear(data_size, 4)
        self.bias = nn.Embedding(num_classes, data_size)
        nn.init.zeros_(self.bias.weight)

    def latent_and_data(self, x, y):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        logits = self.decoder(z) + self.bias(y)
        pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x.flatten(1))

    def encoded(self, x, y):
        loc, log_scale = self.encoder(x.flatten(1) - self.bias(y).sigmoid()).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            self.latent_and_data(x, y)

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            self.encoded(x, y)


class SemiSupervised(Conditional):
    def __init__(self, data_size, num_classes):
        super().__init__(data_size, num_classes)
        self.classifier = nn.Linear(data_size, num_classes)

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            alike = dist.Categorical(logits=torch.zeros_like(self.classifier.bias))
            self.latent_and_data(x, pyro.sample("y", alike, obs=y.clamp(min=0), obs_mask=y >= 0))

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            with poutine.mask(mask=y < 0):
                drawn = pyro.sample("y_unobserved", dist.Categorical(logits=self.classifier(x.flatten(1))))
            self.encoded(x, torch.where(y >= 0, y, drawn))


class Supervised(Conditional):
    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Categorical(logits=self.bias.weight.new_zeros(len(self.bias.weight))), obs=y)
            self.latent_and_data(x, y)
"""

NAME = f"of_labels_{os.getpid()}"
FIT = ["--condition=labels", "--batch-size=50", "--compile=off", "--learning-rate=0.05"]
JUDGE = [f"--trust={NAME}", "--limit=12", "--ks=1,5", "--compile=off"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A run that is trained a little."""
    folder, path = tmp_path_factory.mktemp("labels"), list(sys.path)
    (folder / f"{NAME}.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", f"--program={NAME}:Conditional", *FIT, "--steps=60", "--output=given"]) == 0
    torch.set_default_dtype(torch.float64)
    yield folder
    sys.path[:] = path
    sys.modules.pop(NAME, None)


@pytest.fixture(autouse=True)
def as_a_user(here, monkeypatch):
    monkeypatch.chdir(here)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_figures_arrays_and_page_say_what_is_given(here, monkeypatch, capsys):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    monkeypatch.setattr("pplvm.commands.evaluate.annealing_hint", lambda *unused: None)
    assert main(["evaluate", "given", *JUDGE]) == 0
    told = json.loads((here / "given/evaluation-test/evaluation.json").read_text())
    names = [figure["name"] for section in told["figures"].values() for figure in section]
    assert {"log p(x | labels), k = 5", "bits/dim given labels"} <= set(names)
    assert not any(name.startswith(("log p(x)", "log p(x,")) or name == "bits/dim" for name in names)
    assert "log p(x | labels), k = 5" in (here / "given/evaluation-test/report.html").read_text()
    with xr.open_dataset(here / "given/evaluation-test/evaluation.nc", engine="h5netcdf") as arrays:
        assert arrays.log_p.attrs["long_name"] == "log p(x | labels)"
    run = pplvm.load("given", trust=NAME)
    x, y = run.data("test").batch(torch.arange(12))
    found = pplvm.importance_sampled(run.program, (x, y), ks=(1, 5))
    assert told["figures"]["likelihood"][1]["value"] == pytest.approx(float(found.log_p[:, 1].mean()), abs=1e-5)
    assert torch.isfinite(run.loss(x, y))


@pytest.mark.slow
def test_figures_of_a_program_that_observes_labels_do_not_pass_for_those_of_x(here, monkeypatch, capsys):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    monkeypatch.setattr("pplvm.commands.evaluate.annealing_hint", lambda *unused: None)
    fit = ["fit", f"--program={NAME}:SemiSupervised", f"--trust={NAME}", *FIT, "--known-labels=100", "--steps=2"]
    assert main([*fit, "--output=observed"]) == 0
    assert main(["evaluate", "observed", *JUDGE]) == 0
    told = json.loads((here / "observed/evaluation-test/evaluation.json").read_text())
    names = [figure["name"] for section in told["figures"].values() for figure in section]
    assert "log p(x, labels), k = 5" in names and not any("bits" in name for name in names)
    assert any("bits per dimension: this is log p(x, labels)" in sentence for sentence in told["left_out"])
    assert main(["evaluate", "observed", *JUDGE, "--hide-labels", "--output=hidden"]) == 0
    told = json.loads((here / "hidden/evaluation.json").read_text())
    names = [figure["name"] for section in told["figures"].values() for figure in section]
    assert {"log p(x), k = 5", "bits/dim"} <= set(names) and not any("labels" in name for name in names)


@pytest.mark.slow
def test_pictures_are_drawn(here):
    assert main(["sample", "given", f"--trust={NAME}", "--count=40", "--output=drawn"]) == 0
    assert {"samples", "draws", "reconstructions", "traversal-z"} <= {
        path.stem for path in (here / "drawn").glob("*.png")
    }


def test_samples_are_of_each_class_in_turn_or_of_one(here, monkeypatch):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    assert main(["sample", "given", f"--trust={NAME}", "--count=400"]) == 0
    arrays = np.load("given/samples/samples.npz")
    assert arrays["labels"].tolist() == [n % 10 for n in range(400)]
    train = pplvm.load("given", trust=NAME).data("train")
    means = train.rows(torch.arange(len(train))).numpy()
    of_class = [means[train.labels.numpy() == label].mean(0) for label in range(10)]
    for label in (0, 1):
        apart = [abs(arrays["mean"][arrays["labels"] == label].mean(0) - other).mean() for other in of_class[:2]]
        assert apart[label] < apart[1 - label], "samples are of their own class"
    assert main(["sample", "given", f"--trust={NAME}", "--count=5", "--label=7", "--output=seven"]) == 0
    assert np.load("seven/samples.npz")["labels"].tolist() == [7] * 5


def test_labels_that_a_program_cannot_do_without_are_not_hidden(capsys):
    fit = ["fit", f"--program={NAME}:Supervised", f"--trust={NAME}", *FIT, "--steps=1", "--output=supervised"]
    assert main(fit) == 0
    capsys.readouterr()
    assert main(["evaluate", "supervised", *JUDGE, "--hide-labels", "--output=none"]) == 2
    told = capsys.readouterr().err
    assert "supervised observes labels and does not run where none is known, -1 (IndexError" in told
    assert len(told.splitlines()) == 1


def test_a_class_that_is_not_there_is_refused(capsys):
    assert main(["sample", "given", f"--trust={NAME}", "--label=10", "--output=none"]) == 2
    assert "--label 10 is no class of digits, which has 0 to 9" in capsys.readouterr().err
    assert main(["evaluate", "given", *JUDGE, "--hide-labels", "--output=none"]) == 2
    assert "given labels and observes none, so that it has no log p(x) without them" in capsys.readouterr().err
    plain = SimpleNamespace(data=SimpleNamespace(spec=SimpleNamespace(conditions=())))
    with pytest.raises(ValueError, match="this run was not trained with --condition labels"):
        sample_request(plain, 3, label=1)
