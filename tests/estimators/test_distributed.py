"""`pplvm compare` with a launcher in front: two processes find what one does, and speak with one voice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from pplvm.cli import main
from tests.distributed.ranks.comparing import CASES, NET, VAE

ROOT = Path(__file__).parent.parent.parent
ROUNDED = ("t2", "p_value", "group_z", "group_variance")
"""Found from float32 sums about an origin that is each rank's own."""
OF_NEIGHBOURS = {"p_norm", "detectable_anywhere", "detectable_bias"}
"""The scale of their noise is found from replicates that one rank drew after one another."""

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, str(ROOT / "tests/distributed/ranks/comparing.py")],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """Of a case, what each of the two ranks returned and said; progress and what was read of the data are left out."""
    both = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    for case in (both[0][name] for name in CASES):
        lines = (line for line in case["err"].splitlines() if not line.startswith("data: "))
        case["err"] = "\n".join(line for line in lines if line.strip() and "%|" not in line)
    return lambda case: tuple(found[case] for found in both)


@pytest.fixture
def single_precision(known_state):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("name, words", [("net", NET), ("vae", VAE)])
def test_two_find_what_one_does(name, words, folder, monkeypatch, single_precision):
    """All but the times: 13 replicates on 2 ranks, of 3 minibatches or with references that are drawn themselves."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    assert main(["compare", *words, "--output", f"{name}-alone"]) == 0
    two, one = (xr.load_dataset(folder / run / "gradients.nc", engine="h5netcdf") for run in (name, f"{name}-alone"))
    assert two.sizes == one.sizes and two.sizes["draw"] == 9
    timed = {name for name in one if str(name).startswith(("ms", "milliseconds", "work"))} - {"work_evaluations"}
    for variable in set(one) - timed - OF_NEIGHBOURS:
        if one[variable].dtype.kind == "f":
            rtol, atol = (1e-4, 1e-5) if variable in ROUNDED else (1e-5, 1e-12)
            assert np.allclose(two[variable], one[variable], rtol, atol, equal_nan=True), variable
        else:
            assert (two[variable].values == one[variable].values).all(), variable
    for variable in ("grad", "loss", "grad_norm"):  # kept replicates are the same ones in the same order
        assert two[variable].equals(one[variable]), variable
    assert (two.replicates == 13 * one.sizes["chain"]).all() and (two.ms > 0).all()


def test_the_first_alone_speaks(told):
    for case in ("net", "vae"):
        first, second = told(case)
        assert first["code"] == second["code"] == 0
        assert first["out"].count("report:") == 1 and not second["out"] and not second["err"]


def test_an_interrupt_of_one_stops_both_after_the_same_round(told, folder):
    first, second = told("interrupted")
    assert first["code"] == second["code"] == 130
    assert first["err"] == "interrupted: writing what is finished" and not second["err"] and not second["out"]
    data = xr.load_dataset(folder / "interrupted" / "gradients.nc", engine="h5netcdf")
    assert int(data.replicates[0]) == 10  # five of each
    assert (folder / "interrupted" / "report.html").exists()


def test_a_failure_of_one_is_told_once_and_what_is_finished_is_written(told, folder):
    first, second = told("broken")
    assert first["code"] == second["code"] == 3
    assert first["err"].splitlines() == [
        "failed: writing what is finished",
        "pplvm compare: rank 1: estimator tests.distributed.ranks.comparing:Broken gave a gradient that is not finite "
        "(replicate 9)",
    ]
    assert not second["err"]
    data = xr.load_dataset(folder / "broken" / "gradients.nc", engine="h5netcdf")
    assert int(data.replicates[0]) == 8 and data.sizes["draw"] == 8  # of whole rounds


def test_what_fails_on_one_is_left_out_on_both_and_the_others_go_on(told, folder):
    first, second = told("left out")
    broken = "tests.distributed.ranks.comparing:Broken"
    sentence = f"{broken} is left out: rank 1: estimator {broken} gave a "
    assert first["code"] == second["code"] == 0 and not second["err"] and not second["out"]
    assert first["err"].startswith(f"pplvm compare: {sentence}") and first["out"].count(sentence) == 1
    found, alone = (
        xr.load_dataset(folder / run / "gradients.nc", engine="h5netcdf") for run in ("left-out", "without")
    )
    assert found.estimator.values.tolist() == ["nvil", "rloo"] and (found.replicates == 13).all()
    for variable in ("grad", "loss", "variance", "correlation"):
        expected = alone[variable].sel(estimator="rloo")
        assert np.allclose(found[variable].sel(estimator="rloo"), expected, 1e-6, 1e-9), variable


def test_processes_that_trained_apart_are_refused(told, folder):
    first, second = told("apart")
    assert first["code"] == second["code"] == 1 and not second["err"]
    assert ", 3 steps, 'program.prior_logits' differs between ranks" in first["err"]
    assert "each trains by itself from one seed" in first["err"] and not (folder / "apart").exists()


@pytest.mark.parametrize(
    "case, words",
    [
        ("there already", "pplvm compare: net exists: replace it by --overwrite, or name another with --output"),
        ("misspelt", "pplvm compare: unknown objective 'rlo'"),
        ("no such option", "pplvm compare: unrecognized arguments: --nothing"),
        ("only here", "pplvm compare: rank 1: no such thing on this machine"),
    ],
)
def test_bad_input_gets_one_line_from_all(case, words, told, folder):
    first, second = told(case)
    assert first["code"] == second["code"] == 2
    assert first["err"].count("\n") == 0 and first["err"].startswith(words) and not second["err"]
    assert not (folder / "only").exists() and not (folder / "runs").exists()


def test_a_rank_is_silent_only_if_the_first_has_said_the_same(told):
    assert [case["err"].strip() for case in told("both say the same")] == ["help", ""]
    assert [case["err"].strip() for case in told("each says its own")] == ["help", "rank 1: no"]
    assert [case["err"].strip() for case in told("the second alone")] == ["", "rank 1: no"]


def test_no_thread_of_the_group_outlives_it(told):
    """One that did would now and then abort its process at the end."""
    assert told("group is gone") == (True, True)
