"""A user's density without latents, from the command line: every verb works, or says in a sentence why it cannot."""

import json
import math

import numpy as np
import pytest
import torch

from pplvm.cli import main

MODULE = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Density(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.log_sigma = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Normal(self.mu, self.log_sigma.exp()).to_event(1), obs=x)

    def guide(self, x):
        pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "latentless.py").write_text(MODULE)
    np.save("x.npy", np.random.default_rng(0).normal(1.0, 0.5, (200, 2)).astype(np.float32))
    yield tmp_path
    torch.set_default_dtype(torch.float64)


DATA = ["--data=x.npy", "--binarize=none"]


def test_every_verb_knows_a_program_without_latents(here, capsys, monkeypatch):
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    program = "--program=latentless:Density"
    assert main(["check", "latentless:Density", *DATA]) == 0
    assert main(["fit", program, *DATA, "--steps=400", "--learning-rate=0.02", "--output=run"]) == 0
    assert main(["evaluate", "run", "--trust=latentless", "--annealed=2", "--ks=1,10"]) == 0
    told = json.loads((here / "run/evaluation-test/evaluation.json").read_text())
    best, *_ = told["figures"]["likelihood"]
    assert (best["name"], best["note"]) == ("log p(x), exact", "the program has no latents")
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))  # of the source, in nats
    assert abs(best["value"] + entropy) < 5 * best["error"] and best["error"] < 0.5
    assert any("annealing, active units and information" in sentence for sentence in told["left_out"])
    assert main(["sample", "run", "--trust=latentless", "--count=500"]) == 0
    assert abs(np.load("run/samples/samples.npz")["draw"].mean() - 1.0) < 0.15
    capsys.readouterr()
    assert main(["compare", program, *DATA, "--output=compared"]) == 2
    assert "has no latents, so all estimators have one gradient" in capsys.readouterr().err
