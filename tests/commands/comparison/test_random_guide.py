"""`pplvm compare` of a program whose guide is a point mass by default: its random variant, unless told otherwise."""

import argparse

import pytest
import torch

from pplvm.cli import main
from pplvm.commands.comparison.random_guide import random_variant
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vq_vae import vq_vae


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path, known_state):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def chosen(name, program, settings=(), checkpoint=()):
    return random_variant(argparse.Namespace(set=list(settings), checkpoint=list(checkpoint)), name, program, X)


X = torch.ones(3, 8, dtype=torch.float32)


def test_which_programs_get_a_setting():
    assert chosen("vq-vae", vq_vae(8, (1, 2), 3, 2, (5,))) == "posterior=stochastic"
    assert chosen("vq-vae", vq_vae(8, (1, 2), 3, 2, (5,)), ["posterior=nearest"]) is None
    assert chosen("vq-vae", vq_vae(8, (1, 2), 3, 2, (5,)), ["num_codes=3"], ["runs/mine"]) is None
    assert chosen("sigmoid-belief-net", SigmoidBeliefNet(8)) is None


def test_the_table_of_a_vq_vae_without_a_setting(capsys):
    small = ["--set", "grid=1,2", "--set", "num_codes=4", "--set", "hidden_sizes=20", "--steps", "0", "--sweep", ""]
    few = ["--minibatches", "1", "--batch-size", "20", "--replicates", "40", "--compile", "graph"]
    names = "rloo,disarm,local-expectation,biased-st,biased-code-st,biased-code-rotation,biased-reinmax"
    assert main(["compare", "--program", "vq-vae", *small, *few, "--estimators", names, "--output", "runs/a"]) == 0
    said = capsys.readouterr()
    assert "vq-vae's guide draws nothing at random by default, so it gets --set posterior=stochastic" in said.err
    verdicts = {line.split()[0]: line for line in said.out.splitlines() if line and line.split()[0] in names.split(",")}
    assert all(("BIASED" in verdicts[name]) == name.startswith("biased-code") for name in ("rloo", "biased-code-st"))
    assert len(verdicts) == 7
