"""Two stages on the command line: `--initial RUN --train PART`, resumed, judged, and refused in words."""

import contextlib
import importlib
import io
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

import pplvm
from pplvm.cli import main
from pplvm.training.checkpoints import read_latest
from tests.commands.test_fit import differing, stop_at

PROGRAMS = """
    import pyro, pyro.distributions as dist, torch
    from torch import nn

    class First(nn.Module):
        '''Batch norm and dropout in the encoder; the prior's mean is a part of its own.'''

        def __init__(self, data_size):
            super().__init__()
            self.encoder = nn.Sequential(nn.BatchNorm1d(data_size), nn.Dropout(0.3), nn.Linear(data_size, 4))
            self.decoder = nn.Linear(2, data_size)
            self.prior = nn.Linear(1, 2)
            self.idle = nn.Linear(1, 1)

        def model(self, x):
            with pyro.plate("batch", len(x)):
                loc = self.prior(torch.ones(1, 1))
                z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x.flatten(1))

        def guide(self, x):
            loc, log_scale = self.encoder(x.flatten(1)).chunk(2, -1)
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    class Second(First):
        def __init__(self, data_size):
            super().__init__(data_size)
            self.prior = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 2))

    class Wider(First):
        def __init__(self, data_size):
            super().__init__(data_size)
            self.idle = nn.Linear(2, 1)

    class Other(nn.Module):
        def __init__(self, data_size):
            super().__init__()
            self.inner = First(data_size)

        def model(self, x):
            self.inner.model(x)

        def guide(self, x):
            self.inner.guide(x)
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A first stage, of all parts: the folder with its run, and the module with the programs."""
    folder = tmp_path_factory.mktemp("stages")
    before, path = os.getcwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    name = f"two_stages_{os.getpid()}"
    Path(f"{name}.py").write_text(textwrap.dedent(PROGRAMS))
    importlib.invalidate_caches()
    torch.set_default_dtype(torch.float32)
    assert fit(f"--program={name}:First", "--steps=20", "--output=first") == 0
    yield name
    sys.modules.pop(name, None)
    torch.set_default_dtype(torch.float64)
    os.chdir(before)
    sys.path[:] = path


@pytest.fixture(autouse=True)
def single_precision(known_state, first):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def fit(*words):
    return main(["fit", "--batch-size=50", "--log-every=4", "--validate-every=10", "--save-every=10", *words])


SECOND = ("--average=0.9", "--schedule=cosine", "--steps=21", "--initial=first", "--train=prior")


@pytest.fixture(scope="module")
def second(first):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert fit(f"--program={first}:Second", *SECOND, "--output=second") == 0
    Path("told.txt").write_text(told.getvalue())
    return Path("second")


def test_all_but_the_part_is_that_of_the_first_stage_bit_by_bit(second):
    there, here = read_latest(Path("first")), read_latest(second)
    last = {name.removeprefix("program."): v for name, v in here.state["parts"]["stepper"]["loss"].items()}
    for weights in (here.weights, last):  # the running average is what is saved as the weights
        kept = {name for name in weights if not name.startswith("prior")}
        assert len(kept) == 11 and all(torch.equal(weights[name], there.weights[name]) for name in kept)
    assert not any(torch.equal(here.weights[name], last[name]) for name in last if name.startswith("prior"))
    optimizers = here.state["parts"]["stepper"]["optimizers"]
    assert list(optimizers) == ["model"] and len(optimizers["model"]["param_groups"][0]["params"]) == 4


def test_the_run_tells_of_its_stage(second):
    manifest = json.loads((second / "manifest.json").read_text())
    sealed = json.loads(Path("first/manifest.json").read_text())
    assert manifest["train"] == ["prior"]
    weights = sealed["files"]["model.safetensors"]["sha256"]
    assert manifest["initial"] == {"run": sealed["run"], "step": 20, "sha256": weights}
    config = yaml.safe_load((second / "config.yaml").read_text())
    assert (config["initial"], config["train"]) == ("first", ["prior"])
    assert "initial" not in sealed and "train" not in sealed
    lines = Path("told.txt").read_text()
    new = ", ".join(f"prior.{number}.{name}" for number in (0, 2) for name in ("weight", "bias"))
    assert f"--initial first, step 20: 11 weights taken; new: {new}; left aside: prior.bias, prior.weight\n" in lines
    assert "--train prior: 14 of 596 parameters learn, the rest is frozen\n" in lines


@pytest.mark.parametrize("stop", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_resumed_second_stage_is_bit_identical_and_reads_the_first_no_more(second, first, stop, monkeypatch):
    stop_at(stop, monkeypatch)
    assert fit(f"--program={first}:Second", *SECOND, "--overwrite", "--output=stopped") == 130
    monkeypatch.undo()
    moved = Path("first").rename("gone")
    try:
        assert main(["fit", "--resume=stopped", "--trust", first]) == 0
    finally:
        moved.rename("first")
    assert differing(second, "stopped") == []


@pytest.mark.slow
def test_what_judges_a_run_judges_one_with_frozen_parts(second, first, tmp_path):
    trust = ["--trust", first]
    assert main(["evaluate", "second", "--limit=3", "--ks=1,2", f"--output={tmp_path}/e", *trust]) == 0
    assert main(["sample", "second", f"--output={tmp_path}/s", *trust]) == 0
    words = ["--batch-size=5", "--replicates=4", "--minibatches=1", "--estimators=pathwise,rloo", *trust]
    assert main(["compare", "--checkpoint=second", *words, f"--output={tmp_path}/c"]) == 0


def test_it_is_loaded_as_any_run(second, first):
    run = pplvm.load("second", trust=first)
    assert torch.equal(
        run.program.encoder[0].running_mean, read_latest(Path("first")).weights["encoder.0.running_mean"]
    )


REFUSED = {
    "--initial: there is no checkpoint in nothing: name a directory that pplvm fit wrote": ["--initial=nothing"],
    "have no weight of an equal name: there it is ": ["--program=:Other", "--initial=first"],
    "--initial first: 'idle.weight' has shape (1, 1) in the weights and (1, 2) in Wider: build it with the sizes": [
        "--program=:Wider",
        "--initial=first",
    ],
    "Second has no part 'priro', did you mean 'prior'?: it has encoder, decoder, prior, idle and": ["--train=priro"],
    "part 'prior.1' of Second has no parameter that learns, so that nothing is left to train": ["--train=prior.1"],
    "--train idle: Pathwise does not depend on any parameter of it": [
        "--initial=first/checkpoints/best",
        "--train=prior.2.bias",
        "--train=idle",
    ],
    "--aggressive trains the guide, and --train prior freezes it": ["--train=prior", "--aggressive"],
    "--guide-learning-rate is of the guide, and --train prior freezes it": [
        "--train=prior",
        "--guide-learning-rate=0.1",
    ],
    "--resume second goes on in second with its settings: leave --initial out": ["--resume=second", "--initial=first"],
    "it was saved with another choice of --train": ["--resume=second", "--train=decoder"],
}


def test_a_run_is_not_replaced_by_what_starts_from_it(second, first, capsys):
    for initial in ("second", "second/checkpoints/best"):
        before = read_latest(second).weights
        assert (
            fit(f"--initial={initial}", "--output=second", "--overwrite", "--steps=1", f"--program={first}:Second") == 2
        )
        assert "lies in second, which would be replaced" in capsys.readouterr().err.splitlines()[-1]
        assert all(torch.equal(before[name], value) for name, value in read_latest(second).weights.items())


def test_a_part_that_is_typed_takes_the_place_of_those_in_a_configuration(second, first):
    words = ("--config=second/config.yaml", "--train=decoder", "--output=other", f"--trust={first}", "--steps=1")
    assert fit(*words) == 0
    assert yaml.safe_load(Path("other/config.yaml").read_text())["train"] == ["decoder"]


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_stage_is_refused_in_one_sentence(first, second, words, capsys):
    typed = [word.replace("=:", f"={first}:") for word in REFUSED[words]]
    if "--resume=second" not in typed:
        typed = [f"--program={first}:Second", "--output=refused", *typed]
    assert main(["fit", *typed, "--trust", first]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert words in line and not Path("refused").exists()
