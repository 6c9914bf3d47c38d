"""The command line with --device: every verb that takes one, with the figures of the CPU."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.cli import main
from pplvm.training.plain_state import PLAIN
from tests.pretend_device import PretendTensor

UNFUSED = "--optimizer=adam@fused=False"  # torch fuses steps on the devices of its list alone
SMALL = ["--set=hidden_sizes=5", "--set=latent_size=2", "--batch-size=20", UNFUSED]
FIT = ["fit", "--program=vae", *SMALL, "--steps=4", "--log-every=2", "--validate-every=2", "--save-every=2"]
JUDGED = ["--limit=6", "--ks=1,4", "--annealed=2", "--chains=2", "--annealing-steps=3"]
COMPARED = ["--replicates=4", "--reference-draws=4", "--minibatches=1", "--batch-size=10", "--sweep="]


@pytest.fixture
def directory(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("pplvm.training.plain_state.PLAIN", (*PLAIN, PretendTensor))
    yield
    torch.set_default_dtype(torch.float64)


def records(run):
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if isinstance(value, int | float)} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("compile", ["off", "graph"])
def test_a_run_is_the_same_on_both(accelerator, directory, compile):
    def on(device):
        run, where = f"run-{device.type}", f"--device={device.type}"
        assert main([*FIT, f"--compile={compile}", where, f"--output={run}"]) == 0
        assert main(["fit", "--resume", run, "--steps=6", where]) == 0
        assert len(records(run)) > 2
        return records(run)

    accelerator.same(on)


@pytest.mark.slow
def test_a_run_is_judged_shown_and_compared_alike(accelerator, directory):
    assert main([*FIT, "--compile=off", "--output=run"]) == 0

    def on(device):
        place, where = f"on-{device.type}", f"--device={device.type}"
        assert main(["evaluate", "run", where, *JUDGED, "--compile=off", f"--output={place}"]) == 0
        assert main(["sample", "run", where, "--count=4", f"--output={place}-samples"]) == 0
        words = ["--checkpoint=run", "--estimators=pathwise,stick-the-landing", "--compile=off", where, *COMPARED]
        assert main(["compare", *words, f"--output={place}-compared"]) == 0
        with np.load(f"{place}-samples/samples.npz") as arrays:
            pictures = {name: torch.from_numpy(arrays[name]) for name in arrays if arrays[name].dtype.kind in "fiu"}
        return pictures, json.loads(Path(place, "evaluation.json").read_text())

    accelerator.same(on)
