"""`pplvm fit` and `pplvm evaluate` of codebooks: resumed bit by bit with restarts, and how many codes are used."""

import json
from pathlib import Path

import pytest
import torch

from pplvm.cli import main
from pplvm.training.checkpoints import read_latest
from tests.commands.test_continuous_programs import FILES, interrupted

WORDS = ["--program=vq-vae", "--set=num_codes=8", "--set=hidden_sizes=(20,)", "--batch-size=400", "--log-every=5"]
WORDS += ["--set=restart_below=0.95", "--validate-every=8", "--save-every=8"]
"""Three batches an epoch, and restarts from the sixth step on: .99^6 < .95."""


@pytest.fixture(autouse=True)
def a_folder(known_state, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures.draw", lambda *unused: None)
    yield
    torch.set_default_dtype(torch.float64)


def fit(*words):
    return main(["fit", *WORDS, *words])


def lines(run):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def restarted(run):
    """Codes whose running share is the usual one, as only a code that restarted at the last step has it."""
    return (read_latest(Path(run)).weights["codebook.shares"] == 1 / 8).sum()


@pytest.mark.parametrize("kind, tier", [("moving-average", "off"), ("moving-average", "graph"), ("gradient", "off")])
def test_a_run_with_restarts_resumes_bit_identically(kind, tier):
    words = [f"--set=codebook={kind}", "--average=0.9", f"--compile={tier}", "--steps=13"]
    assert fit(*words, "--output=whole") == 0
    with interrupted(8):  # in the middle of an epoch
        assert fit(*words, "--output=stopped") == 130
    assert main(["fit", "--resume=stopped"]) == 0
    assert not [name for name in FILES if (Path("whole") / name).read_bytes() != (Path("stopped") / name).read_bytes()]
    held = read_latest(Path("whole")).state["parts"]["stepper"]["loss"]
    assert int(held["program.codebook.steps"]) == 13 and "program.codebook.rows" not in held
    assert not held["program.codebook.pending"].any()


def test_codes_do_restart_and_without_restarts_do_not():
    assert fit("--set=codebook=moving-average", "--compile=off", "--steps=6", "--output=with") == 0
    assert (
        fit("--set=codebook=moving-average", "--compile=off", "--steps=6", "--output=without", "--set=restart_below=0")
        == 0
    )
    assert restarted("with") > 0 == restarted("without")


def test_a_run_that_ended_within_an_epoch_goes_on_as_a_longer_one():
    """The usage so far is told at the end, and forgotten at that of the epoch."""
    words = ["--set=codebook=moving-average", "--compile=off"]
    assert fit(*words, "--steps=9", "--output=long") == fit(*words, "--steps=7", "--output=short") == 0
    assert main(["fit", "--resume=short", "--steps=9"]) == 0
    a, b = (read_latest(Path(name)).weights for name in ("long", "short"))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_usage_is_recorded_once_an_epoch_and_told_of_the_data(capsys):
    assert fit("--compile=off", "--steps=8", "--output=run", "--set=initial_codes=k-means") == 0
    found = {line["step"]: line for line in lines("run") if "code_perplexity" in line}
    assert list(found) == [3, 6, 8]
    assert all(1 <= line["code_perplexity"] <= 8 and 1 / 8 <= line["codes_used"] <= 1 for line in found.values())
    assert (found[3]["codes_used"] * 8) % 1 == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--ks=1", "--limit=20", "--compile=off"]) == 0
    told = json.loads(Path("run/evaluation-test/evaluation.json").read_text())["figures"]["code usage"]
    assert [figure["name"] for figure in told] == ["perplexity of codes", "codes used by codes"]
    assert 1 <= told[0]["value"] <= 8 and "of 8; over 20 data, one draw each, its 4 positions pooled" in told[0]["note"]
    assert "code usage" in capsys.readouterr().out


def test_a_frozen_codebook_records_no_usage_and_stays():
    assert fit("--compile=off", "--steps=3", "--output=first") == 0
    assert fit("--compile=off", "--steps=8", "--output=second", "--initial=first", "--train=decoder") == 0
    a, b = (read_latest(Path(name)).weights for name in ("first", "second"))
    assert all(torch.equal(value, b[name]) for name, value in a.items() if name.startswith("codebook."))
    assert not any("code_perplexity" in line for line in lines("second"))


@pytest.mark.parametrize(
    "words, told",
    [
        (["--set=num_codes=1"], "num_codes must be an integer of at least 2, got 1"),
        (["--set=codebook=ema"], "codebook must be 'gradient' or 'moving-average', got 'ema'"),
        (["--set=initial_codes=first"], "initial_codes must be 'normal' or 'data' or 'k-means', got 'first'"),
        (["--set=initial_codes=data", "--set=num_codes=3000"], "3000 codes cannot start at the data, which give 1980"),
        (["--set=codebook=moving-average", "--set=posterior=stochastic"], "which a moving average does not follow"),
        (["--set=restart_below=1.5"], "restart_below must be at least 0 and less than 1, got 1.5"),
    ],
)
def test_faults_are_told_in_a_sentence_before_training(words, told, capsys):
    assert fit("--steps=2", *words) == 2
    assert told in capsys.readouterr().err and not list(Path().iterdir())
