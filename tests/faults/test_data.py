"""Faults 1 to 9: data, batches and particles that are not what a program can take."""

import json
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from torch.utils.data import TensorDataset

from pplvm.bounds import iwae
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.contract import ProgramError
from pplvm.programs.vae import VAE
from pplvm.training.checkpoints import read_latest
from pplvm.training.fit import fit as fit_in_python


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_01_a_number_that_is_none_in_a_file(refused, value):
    rows = np.random.default_rng(0).random((30, 4))
    rows[3, 1] = value
    np.savez("rows.npz", pixels=rows)
    assert "row 3 of data set 'rows.npz' holds NaN or infinity: remove or repair it" in refused("--data=rows.npz")


def test_01_nan_in_ones_own_data_set(refused):
    Path("sets.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "rows = torch.rand(20, 4)\nrows[7] = float('nan')\nfound = TensorDataset(rows)\n"
    )
    assert "row 7 of data set 'sets:found' holds NaN or infinity" in refused("--data=sets:found")


def test_01_nan_in_a_batch_of_ones_own_loop():
    loss, x = vae(), torch.ones(5, 8)
    x[2, 0] = float("nan")
    with pytest.raises(ProgramError, match="^row 2 of the batch holds NaN or infinity: remove or repair it$"):
        loss(x)
    with pytest.raises(FloatingPointError, match="^step 1: row 2 of the batch holds NaN or infinity"):
        list(fit_in_python(loss, [torch.ones(5, 8), x], torch.optim.Adam(loss.parameters())))


CAUSES = {
    "Turns": ("the loss is nan", "model x"),
    "Kinked": ("the gradient's norm is nan", None),
    "Falls": ("the loss is nan", "guide z"),
}


@pytest.mark.parametrize("program", CAUSES)
def test_02_a_step_without_numbers_stops_before_it_moves_anything(fit, marked, program):
    data, row = marked
    code, lines = fit(f"--program=mine:{program}", f"--data={data}", "--steps=9")
    saved, told = read_latest(Path("run")), json.loads(Path("run/failure.json").read_text())
    reason, site = CAUSES[program]
    assert code == 3 and reason in lines[-1] and len(lines) == 3, lines
    assert f"step {told['step']}: " in lines[-1] and "run/failure.json tells of the batch" in lines[-1]
    assert row in told["rows"] and len(told["rows"]) == 12 and told["seed"] == 0
    assert site is None or told["log_densities"][site] == "nan"
    assert program != "Falls" or "the scale of guide site 'z' is -1 in row " in told["validated"][0]
    if saved is None:
        assert told["step"] == 1 and "nothing was saved before" in lines[-1]
    else:
        assert saved.step == told["step"] - 1 and f"--resume run goes on from step {saved.step}" in lines[-1]
        assert all(value.isfinite().all() for value in saved.weights.values())


def test_02_a_batch_without_numbers_is_skipped_and_leaves_no_trace(fit, marked):
    data, row = marked
    code, lines = fit("--program=mine:Turns", f"--data={data}", "--steps=12", "--on-nan=skip")
    skipped = [line for line in lines if line.startswith("skipped the batch of rows ")]
    assert code == 0 and len(skipped) in (3, 4), lines  # once an epoch of four batches
    saved = read_latest(Path("run"))
    assert saved.step == 12 and all(value.isfinite().all() for value in saved.weights.values())


def test_02_a_run_that_stopped_is_resumed_with_another_policy(fit, marked):
    assert fit("--program=mine:Turns", f"--data={marked[0]}", "--steps=9", "--seed=1")[0] == 3
    stopped = read_latest(Path("run")).step
    code, lines = fit("--resume=run", "--trust=mine", "--on-nan=skip")
    assert code == 0 and read_latest(Path("run")).step == 9 > stopped >= 1, lines


def test_02_skipping_has_an_end(fit, marked):
    code, lines = fit("--program=mine:Turns", f"--data={marked[0]}", "--steps=900", "--on-nan=skip", "--save-every=90")
    assert code == 3 and sum("skipped" in line for line in lines) == 10, lines


@pytest.mark.parametrize("words", [["--learning-rate=1e38"], ["--learning-rate=1e30", "--optimizer=sgd"]])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_02_a_huge_learning_rate_leaves_no_checkpoint_of_its_ruins(fit, words, policy):
    code, lines = fit(*words, f"--on-nan={policy}")
    assert code == 3 and "lower the learning rate" in lines[-1] and "failure.json" in lines[-1], lines
    assert len(lines) == 3 or policy == "skip"
    saved = read_latest(Path("run"))
    assert saved is None or all(value.isfinite().all() for value in saved.weights.values())


def test_02_a_program_that_fails_is_told_with_its_step(refused, marked):
    told = refused("--program=mine:Raises", f"--data={marked[0]}", "--steps=9", code=1)
    assert "step " in told and "ValueError: of the user's own (" in told


def test_03_grey_pixels_under_a_bernoulli(refused, run):
    words = "data set 'digits' has 17 grey levels in [0, 1], but site 'x' is a Bernoulli"
    told = refused("--binarize=none")
    assert words in told and "--binarize static or dynamic" in told and "likelihood=discretized-logistic" in told
    code, lines = run("check", "vae", "--binarize=none")
    assert code == 2 and any(line.startswith(f"violation: {words}") for line in lines)


@pytest.mark.parametrize("pyros_own_validation", [True, False])
def test_03_grey_pixels_in_ones_own_loop(pyros_own_validation):
    with pyro.validation_enabled(pyros_own_validation), pytest.raises(ProgramError) as refusal:
        vae()(torch.full((5, 8), 0.5))
    assert "model site 'x' gives its value no density: make the two agree in shape and support" in str(refusal.value)
    assert len(str(refusal.value)) < 300  # and not all of its values


@pytest.mark.parametrize(
    "kind, words",
    [
        ("floats 0..255", "'rows.npy' has values from 0 to 254.745 that are not in [0, 1] and cannot be binarized: "),
        (
            "floats 0..255, as they are",
            "has real values, 247.752 in row 1 of its split, but site 'x' is a Bernoulli",
        ),
        ("whole numbers", "has values from 0 to 765 that are not grey levels from 0 to 255 and cannot be binarized: "),
        ("whole numbers, as they are", "its values run from 0 to 765: scale them, or, if they are grey images, give "),
        ("uint8", "'rows.npy' has 256 grey levels in [0, 1], but site 'x' is a Bernoulli"),
        ("counts", "the data are fractions k/255 and not integers; use a likelihood for grey values"),
    ],
)
def test_04_pixels_that_the_likelihood_does_not_know(refused, kind, words):
    rows = np.random.default_rng(0).integers(0, 256, (60, 7))
    rows[0], rows[1] = 0, 255
    array = rows.astype("uint8")
    if kind.startswith(("whole numbers", "floats")):
        array = rows * (3 if kind.startswith("whole") else 0.999)
    np.save("rows.npy", array)
    words_of_kind = ["--binarize=static"] if kind in ("floats 0..255", "whole numbers") else []
    program = "--program=mine:Counts" if kind == "counts" else "--program=vae"
    assert words in refused("--data=rows.npy", program, *words_of_kind)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float64", "float16", "int64"])
def test_05_files_of_any_dtype_train(fit, dtype):
    np.save("rows.npy", (np.random.default_rng(0).random((60, 7)) < 0.4).astype(dtype))
    assert fit("--data=rows.npy")[0] == 0
    assert {str(value.dtype) for value in read_latest(Path("run")).weights.values()} == {"torch.float32"}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_05_a_batch_of_another_dtype_in_ones_own_loop(dtype):
    with pytest.raises(ProgramError, match=r"guide: mat1 and mat2 must have the same dtype.* as x.float\(\) / 255"):
        vae()(torch.ones(5, 8, dtype=dtype))


@pytest.mark.parametrize(
    "words, told",
    [
        (["--program=mine:Unflattened"], "(96x8 and 64x6): give the program the size of the data, and images flatt"),
        (["--program=mine:Rows"], "at site z dim -1, 12 vs 8: put all its other dimensions in .to_event()"),
        (["--program=mine:Good", "--set=data_size=60"], "(12x64 and 60x6): give the program the size of the data"),
    ],
)
def test_06_images_that_do_not_fit_the_network(refused, words, told):
    found = refused(*words)
    assert told in found and "cannot run on data set 'digits', whose data have shape (8, 8)" in found


def test_06_a_wrong_width_in_ones_own_loop():
    with pytest.raises(ProgramError, match=r"\(5x9 and 8x\d+\): give the program the size of the data"):
        vae()(torch.ones(5, 9))


def test_07_no_data(refused):
    np.save("rows.npy", np.zeros((0, 4)))
    assert "data set 'rows.npy' is empty, its shape is (0, 4): give it at least one row" in refused("--data=rows.npy")
    Path("folder").mkdir()
    assert "folder folder has no images" in refused("--data=folder")
    Path("sets.py").write_text("import torch\nfound = torch.utils.data.TensorDataset(torch.zeros(0, 4))\n")
    assert "data set 'sets:found' is empty" in refused("--data=sets:found")
    assert len(TensorDataset(torch.zeros(0, 4))) == 0


def test_07_a_split_of_too_few(refused):
    np.save("rows.npy", np.eye(5))
    assert "has 5 rows, too few for a split 'test': it takes 10" in refused("--data=rows.npy", "--split=test")


def test_07_an_empty_batch_in_ones_own_loop():
    with pytest.raises(ProgramError, match="the batch is empty, give at least one datum"):
        vae()(torch.ones(0, 8))


def test_08_a_batch_larger_than_the_data_is_all_of_them(fit):
    np.save("rows.npy", np.eye(20))
    code, lines = fit("--data=rows.npy", "--batch-size=500")
    assert code == 0 and "--batch-size 500 is more than the 16 data: all of them are one batch" in lines, lines


def test_08_a_batch_larger_than_its_plate(refused):
    words = "a batch cannot be larger than the N of the plate that it is drawn from"
    assert words in refused("--program=mine:SubsampledTwice", "--batch-size=51")


@pytest.mark.parametrize(
    "words, told",
    [
        (["--particles=0"], "must be at least 1, got 0"),
        (["--particles=-1"], "must be at least 1, got -1"),
        (["--particles=two"], "'two' is no whole number"),
        (["--objective=iwae@num_particles=0"], "objective iwae: num_particles must be at least 1, got 0"),
        (["--objective=rloo", "--program=sigmoid-belief-net", "--particles=1"], "num_particles must be at least 2"),
        (["--objective=vimco@num_particles=1", "--program=sigmoid-belief-net"], "num_particles must be at least 2"),
    ],
)
def test_09_too_few_particles(refused, words, told):
    assert told in refused(*words)


def test_09_too_few_particles_in_ones_own_loop():
    for make in (lambda: Pathwise(num_particles=0), lambda: Pathwise(num_particles=-1), lambda: LeaveOneOut(iwae, 1)):
        with pytest.raises(ObjectiveError, match=r"num_particles must be at least \d, got"):
            make()
    with pytest.raises(ObjectiveError, match="num_particles must be an integer, got 2.5"):
        Pathwise(num_particles=2.5)


def vae():
    return Loss(Pathwise(), VAE(data_size=8, latent_size=2, hidden_sizes=(5,)))
