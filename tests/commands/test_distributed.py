"""`pplvm fit` and `pplvm evaluate` with a launcher in front: two processes do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pplvm.cli import main
from pplvm.training.checkpoints import read_latest
from tests.distributed.ranks.commands import CODES, JUDGED, STILL, WORDS

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, str(ROOT / "tests/distributed/ranks/commands.py")],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    (folder / "told").write_text(done.stderr)
    (folder / "printed").write_text(done.stdout)
    return folder


def test_the_codes_are_those_of_one_process(folder):
    """Both ranks: done, done, stopped by SIGTERM that one got, done, refused, five done, refused, a full disk."""
    told = (folder / "told").read_text()
    assert told.count("codes [0, 0, 143, 0, 2, 0, 0, 0, 0, 0, 2, 2]") == 2
    assert told.count("whole exists: go on with it by --resume whole") == 1
    assert told.count("No space left") == 1 and "gloo" not in told
    assert "the batch size 51 is not divisible by 2 processes: use a multiple of them" in told


def test_the_first_process_alone_tells_how_a_run_ended(folder):
    """Eight runs that wrote something, one of them stopped by a signal that only the second process got."""
    printed = (folder / "printed").read_text()
    assert printed.count("training bound ") == printed.count("next  ") == 8
    assert "next              pplvm fit --resume stopped\n" in printed


def test_a_second_stage_of_two_with_labels_moves_its_part_alone(folder):
    first, second = (read_latest(folder / name) for name in ("labelled", "second"))
    moved = {name for name, value in second.weights.items() if not torch.equal(value, first.weights[name])}
    assert moved == {"classifier.weight", "classifier.bias"} and second.manifest["train"] == ["classifier"]
    assert second.manifest["initial"]["run"] == first.manifest["run"]
    assert (folder / "told").read_text().count("--initial labelled, step 3: 9 weights taken; none is new\n") == 1


def test_a_resumed_run_of_two_is_bit_identical_to_one_that_never_stopped(folder):
    names = ["model.safetensors", "state.pt", "manifest.json", "metrics.jsonl"]
    assert [n for n in names if (folder / "whole" / n).read_bytes() != (folder / "stopped" / n).read_bytes()] == []
    state = read_latest(folder / "whole").state
    assert len(state["random"]) == 2
    assert state["random"][0]["torch"].tolist() != state["random"][1]["torch"].tolist()
    assert len((folder / "whole" / "metrics.jsonl").read_text().splitlines()) == 4 + 2


@pytest.fixture
def single_precision(known_state):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_two_validate_as_one(folder, monkeypatch, single_precision):
    """The same noise, and so the same figure where the weights are the same."""
    monkeypatch.chdir(folder)
    assert main(["fit", *WORDS, *STILL, "--output=still-alone"]) == 0
    both, alone = (
        [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("still", "still-alone")
    )
    both, alone = (
        [line["validation/bound"] for line in lines if "validation/bound" in line] for lines in (both, alone)
    )
    assert len(alone) == 2 and both == pytest.approx(alone, rel=1e-6)


def test_a_codebook_of_two_is_that_of_one(folder, monkeypatch, single_precision):
    """A moving average, and the usage over the epoch, are of the whole batches; with restarts it goes another way."""
    monkeypatch.chdir(folder)
    assert main([*CODES, "--output=codes-alone"]) == 0
    both, alone, restarts = (read_latest(folder / name).weights for name in ("codes", "codes-alone", "restarts"))
    apart = {name: float((both[name] - value).abs().max()) for name, value in alone.items()}
    assert "codebook.sums" in apart and max(apart.values()) < 1e-5, apart
    assert float((restarts["codebook.sums"] - both["codebook.sums"]).abs().max()) > 1e-3
    found = [map(json.loads, Path(name, "metrics.jsonl").read_text().splitlines()) for name in ("codes", "codes-alone")]
    usage = [[line["code_perplexity"] for line in lines if "code_perplexity" in line] for lines in found]
    assert len(usage[0]) == 3 and usage[0] == pytest.approx(usage[1], rel=1e-5)


def test_two_judge_as_one(folder, monkeypatch, single_precision):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "whole", *JUDGED, "--output=alone"]) == 0
    both, alone = (
        json.loads((folder / name / "evaluation.json").read_text())["figures"] for name in ("judged", "alone")
    )
    for title, rows in alone.items():
        for one, two in zip(rows, both[title], strict=True):
            assert two["name"] == one["name"]
            assert two["value"] == pytest.approx(one["value"], rel=1e-6, abs=1e-6), one["name"]
            assert (two["error"] or 0.0) == pytest.approx(one["error"] or 0.0, rel=1e-5, abs=1e-6), one["name"]
