"""`pplvm fit` of a VQ-VAE: its own objective and penalties, those typed beside them, resumed bit by bit."""

import json

import pytest
import torch

from pplvm.cli import main
from pplvm.training.checkpoints import read_latest


@pytest.fixture(autouse=True)
def single_precision(known_state):
    """As the command line runs in a process of its own."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def fit(run, *words):
    return main(["fit", "--program", "vq-vae", "--compile", "off", "--output", str(run), *words])


def manifest(run):
    return json.loads(next((run / "checkpoints").glob("*/manifest.json")).read_text())


def test_a_program_is_trained_by_its_own_objective_and_penalties(tmp_path):
    assert fit(tmp_path / "own", "--steps", "2") in (0, None)
    told = manifest(tmp_path / "own")["objective"]
    assert told == "Penalized(BiasedPathwise(elbo, num_particles=1), penalties={'commitment': 1.0, 'codebook': 1.0})"
    fit(tmp_path / "typed", "--steps", "2", "--penalty", "commitment=0.5")
    assert "{'commitment': 0.5, 'codebook': 1.0}" in manifest(tmp_path / "typed")["objective"]
    fit(tmp_path / "other", "--steps", "2", "--objective", "prior-sampling")
    assert manifest(tmp_path / "other")["objective"].startswith("PriorSampling(")


def test_one_that_is_resumed_is_the_same_to_the_bit(tmp_path):
    words = ("--save-every", "3", "--set", "restart_below=0.1", "--penalty", "commitment=0.5")
    fit(tmp_path / "whole", "--steps", "6", *words)
    fit(tmp_path / "parts", "--steps", "3", *words)
    main(["fit", "--resume", str(tmp_path / "parts"), "--steps", "6"])
    whole, parts = (read_latest(tmp_path / name).weights for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    "words, fault",
    [
        (("--penalty", "nothing=1"), "Penalized names 'nothing', but the guide's deterministic sites are"),
        (("--penalty", "commitment"), "must read NAME=WEIGHT"),
        (("--penalty", "commitment=much"), "'much' is no number"),
        (("--set", "num_codes=1"), "num_codes must be an integer of at least 2, got 1"),
        (("--set", "num_codes=5000"), "5000"),
        (("--set", "posterior=gumbel"), "posterior must be"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, words, fault):
    try:
        assert fit(tmp_path / "run", "--steps", "2", *words) not in (0, None)
    except SystemExit as stopped:
        assert stopped.code
    assert fault in capsys.readouterr().err
