"""`pplvm fit` of a program with labels and penalties: recorded, resumed bit by bit, as a graph, told where it fails."""

import importlib
import json
import os
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.cli import main
from pplvm.training.checkpoints import read_latest
from tests.commands.test_fit import differing, stop_at

PROGRAM = """
    import pyro, pyro.distributions as dist, torch
    from torch import nn
    from torch.nn.functional import one_hot
    from pplvm import Pathwise
    from pplvm.objectives.penalized import Penalized

    class Conditional(nn.Module):
        def __init__(self, data_size, num_classes):
            super().__init__()
            self.classes = num_classes
            self.encoder = nn.Sequential(nn.BatchNorm1d(data_size + num_classes), nn.Linear(data_size + num_classes, 4))
            self.decoder = nn.Linear(2 + num_classes, data_size)

        def code(self, y):
            return one_hot(y, self.classes).float()

        def model(self, x, y):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                both = torch.cat([z, self.code(y).expand(*z.shape[:-1], self.classes)], -1)
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(both)).to_event(1), obs=x.flatten(1))

        def guide(self, x, y):
            loc, log_scale = self.encoder(torch.cat([x.flatten(1), self.code(y)], -1)).chunk(2, -1)
            pyro.deterministic("class", y.float())
            pyro.deterministic("size", loc.square().sum(-1))
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def penalized():
        return Penalized(Pathwise(), {"size": 2.0, "class": 0.0})

    instance = penalized()
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    before, path = os.getcwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    name = f"conditional_{os.getpid()}"
    Path(f"{name}.py").write_text(textwrap.dedent(PROGRAM))
    importlib.invalidate_caches()
    yield name
    sys.modules.pop(name, None)
    os.chdir(before)
    sys.path[:] = path


@pytest.fixture(autouse=True)
def single_precision(known_state, module):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def fit(module, *words):
    options = [
        "--batch-size=50",
        "--log-every=4",
        "--validate-every=6",
        "--save-every=5",
        "--steps=14",
        "--average=0.9",
    ]
    program = [f"--program={module}:Conditional", f"--objective={module}:penalized", "--condition=labels"]
    return main(["fit", *program, *options, *words])


@pytest.fixture(scope="module")
def whole(module):
    torch.set_default_dtype(torch.float32)
    assert fit(module, "--output=whole", "--compile=graph") == 0
    torch.set_default_dtype(torch.float64)
    return Path("whole")


def test_penalties_are_recorded_as_means_since_the_last_record(whole, module):
    """Of the labels the mean is known: that of the batches which the run has drawn."""
    from pplvm import Epochs, digits

    lines = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    records = [line for line in lines if "penalty_class" in line]
    assert [line["step"] for line in records] == [4, 8, 12, 14] and all(line["penalty_size"] > 0 for line in records)
    epochs = Epochs(digits().conditioned("labels"), 50, seed=0)
    means = [float(next(epochs)[1].float().mean()) for _ in range(14)]
    expected = [np.mean(means[first:last]) for first, last in ((0, 4), (4, 8), (8, 12), (12, 14))]
    assert [line["penalty_class"] for line in records] == pytest.approx(expected, rel=1e-5)
    assert (
        Path("whole/metrics.csv").read_text().splitlines()[0].startswith("step,epoch,bound,penalty_size,penalty_class,")
    )
    assert records[-1]["penalty_size"] < records[0]["penalty_size"]


@pytest.mark.parametrize("stop", [6, pytest.param(10, marks=pytest.mark.slow)])
def test_resumed_between_two_records_it_is_bit_identical(whole, module, stop, monkeypatch):
    stop_at(stop, monkeypatch)
    assert fit(module, "--output=stopped", "--overwrite", "--compile=graph") == 130
    state = read_latest(Path("stopped")).state["parts"]["since"]["steps"]
    assert state.shape == (1, stop % 4, 4)
    assert main(["fit", "--resume=stopped", "--trust", module]) == 0
    assert differing(whole, "stopped") == []


@pytest.mark.slow  # `seams/test_command_line.py` runs penalties, and labels, both eagerly and as a graph
def test_eagerly_it_is_the_same(whole, module):
    assert fit(module, "--output=eager", "--compile=off") == 0
    assert not {"model.safetensors", "metrics.csv"} & set(differing(whole, "eager"))


@pytest.mark.slow
def test_its_guide_is_trained_aggressively_too(module):
    words = ("--aggressive", "--optimizer=sgd", "--clip=5", "--steps=27")  # an epoch has 25 batches
    assert fit(module, *words, "--output=aggressive") == 0
    assert read_latest(Path("aggressive")).state["parts"]["aggressive"]["inner_steps"] > 27


def test_a_failure_is_told_with_the_batch_and_its_labels(module, capsys):
    assert fit(module, "--output=failed", "--learning-rate=1e30", "--compile=off") == 3
    assert "lower the learning rate" in capsys.readouterr().err
    told = json.loads(Path("failed/failure.json").read_text())
    assert len(told["rows"]) == 50 and {"model x", "guide z"} <= told["log_densities"].keys()


def test_a_setting_that_an_objective_cannot_take_is_told(module, capsys):
    words = ("--condition=labels", "--steps=1")
    assert fit(module, *words, f"--objective={module}:instance@weight=3", "--output=set") == 2
    assert "is an instance already, so @weight=3 has nothing to set" in capsys.readouterr().err
    assert fit(module, *words, f"--objective={module}:penalized", "--particles=3", "--output=particles") == 0
    assert f"--particles 3 sets nothing: {module}:penalized takes no num_particles" in capsys.readouterr().err
