"""`pplvm fit` of a VQ-VAE: its own objective and penalties, those typed beside them, resumed bit by bit."""

import json
from pathlib import Path

import pytest
import torch

from pplvm.cli import main
from pplvm.training.checkpoints import read_latest
from tests.commands.test_continuous_programs import interrupted
from tests.commands.test_fit import differing


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


def test_a_prior_for_another_grid_of_as_many_codes_is_refused(tmp_path, capsys):
    fit(tmp_path / "first", "--steps", "1", "--set", "prior=pixelcnn")
    second = ("--initial", str(tmp_path / "first"), "--train", "prior", "--steps", "1")
    assert fit(tmp_path / "second", *second, "--set", "grid=1,4") == 2
    assert "codes lie on a grid of 2,2, and --set grid=1,4 is another" in capsys.readouterr().err
    assert fit(tmp_path / "second", *second, "--set", "grid=2,2") in (0, None)


def test_codes_are_evaluated_with_fewer_draws_unless_told(tmp_path, capsys):
    fit(tmp_path / "run", "--steps", "1", "--set", "num_codes=3")
    assert main(["evaluate", str(tmp_path / "run"), "--limit", "5", "--information", "0"]) == 0
    told = capsys.readouterr().out
    assert "log p(x), k = 100" in told and "k = 1000" not in told


LEVELS = ["--program=vq-vae-2", "--set=num_codes=4", "--set=code_size=3", "--set=channels=4"]
LEVELS += ["--set=codebook=moving-average", "--set=restart_below=0.999", "--batch-size=400", "--compile=off"]
"""Restarts in nearly every step, of all codes used less than the average."""
FIRST = ["--steps=9", "--average=0.9", "--output=first"]
SECOND = ["--steps=5", "--average=0.9", "--output=second", "--initial=first", "--train=prior", "--set=prior=pixelcnn"]
SECOND += ["--set=prior_width=4", "--set=prior_layers=2", "--set=prior_dropout=0.2"]


@pytest.mark.slow
def test_either_stage_of_two_levels_is_resumed_to_the_bit(tmp_path, monkeypatch):
    """Moving averages that restart at both levels, then a prior with dropout on them, each stopped within an epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    for stage, step in ((FIRST, 7), (SECOND, 2)):
        assert main(["fit", *LEVELS, *stage]) == 0
        with interrupted(step):
            assert main(["fit", *LEVELS, *stage, "--output=stopped", "--overwrite"]) == 130
        assert main(["fit", "--resume=stopped"]) == 0
        whole = next(word for word in stage if word.startswith("--output")).partition("=")[2]
        assert differing(whole, "stopped") == []
    first, second = (read_latest(Path(name)).weights for name in ("first", "second"))
    held = read_latest(Path("first")).state["parts"]["stepper"]["loss"]
    shares = [held[f"program.{level}_codebook.shares"] for level in ("top", "bottom")]
    assert all(of_level.sum() > 1.0001 for of_level in shares)  # 1 but for restarts, which raise a dead code to 1 / 4
    assert all(torch.equal(second[name], value) for name, value in first.items())


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
