"""Faults 20 and 21: a run resumed as what it is not is refused; as what it would not have become, it is told."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pplvm.training.checkpoints import read_latest

NET = ("--program=sigmoid-belief-net", "--objective=rloo")


@pytest.mark.parametrize(
    "words, told",
    [
        (["--program=ppca"], "another program: program is pplvm.programs.sigmoid_belief:SigmoidBeliefNet there, "),
        (["--objective=nvil"], "another objective: objective is LeaveOneOut(elbo, num_particles=4"),
        (["--objective=rloo@num_particles=5"], "another objective: objective is LeaveOneOut(elbo, num_particles=4"),
        (["--beta=0.5"], "another objective: objective is LeaveOneOut(elbo, num_particles=4"),
        (["--warmup=3"], "another objective"),
        (["--warmup=3", "--balance-kl", "--set=latent_sizes=5,5"], "another setting of the program"),
        (["--set=latent_sizes=7"], "another setting of the program: settings.latent_sizes is not there, but here"),
        (["--optimizer=sgd"], "another optimizer: optimizer is adam there, sgd here"),
        (["--optimizer=adam@eps=0.1"], "another optimizer: optimizer is adam there, adam@eps=0.1 here"),
        (["--schedule=cosine"], "another schedule: schedule is constant there, cosine over 4 steps here"),
        (["--average=0.9"], "another choice of --average: averaged is False there, True here"),
        (["--aggressive"], "another choice of --aggressive: aggressive is False there, True here"),
    ],
)
def test_20_another_run_is_not_resumed(fit, refused, words, told):
    assert fit(*NET, "--steps=2")[0] == 0
    found = refused("--resume=run", "--steps=4", *words)
    assert "run/checkpoints/00000002 cannot be resumed: it was saved with " in found and told in found


def test_20_another_class_of_the_same_tensors_is_not_resumed(fit, refused):
    assert fit("--program=mine:Good", "--steps=2")[0] == 0
    told = refused("--resume=run", "--program=mine:Other", "--steps=4")
    assert "another program: program is mine:Good there, mine:Other here" in told


def test_20_a_program_that_was_edited_is_not_resumed(fit, refused):
    assert fit("--program=mine:Good", "--steps=2")[0] == 0
    Path("mine.py").write_text(Path("mine.py").read_text().replace("width=3", "width=10"))
    del sys.modules["mine"]
    told = refused("--resume=run", "--steps=4", "--trust=mine")
    assert "another architecture: program.decoder.weight has shape (64, 3) there, (64, 10) here" in told


def test_20_a_schedule_that_was_to_end_is_not_drawn_out(fit, refused):
    assert fit("--schedule=cosine", "--steps=2")[0] == 0
    told = refused("--resume=run", "--steps=4")
    assert "schedule is cosine over 2 steps there, cosine over 4 steps here" in told


def test_20_fewer_steps_than_there_are(fit, refused):
    assert fit()[0] == 0
    for steps in (3, 4):
        told = refused("--resume=run", f"--steps={steps}")
        assert "run/checkpoints/00000004 has 4 steps already: give --steps more than that" in told


@pytest.mark.parametrize(
    "words, told",
    [
        (["--output=other"], "--resume run goes on in run with its settings: leave --output out"),
        (["--overwrite"], "leave --overwrite out"),
        (["--config=run/config.yaml"], "leave --config out"),
        (["--resume=nowhere"], "there is no run in nowhere: name a directory that pplvm fit wrote"),
        (["--resume=run/checkpoints"], "there is no run in run/checkpoints"),
        (["--resume=mine.py"], "there is no run in mine.py"),
        (["--resume=begun"], "there is no checkpoint in begun"),
    ],
)
def test_20_what_is_no_run_to_go_on_with(fit, refused, words, told):
    assert fit("--steps=1")[0] == 0
    Path("begun").mkdir()
    Path("begun/config.yaml").write_bytes(Path("run/config.yaml").read_bytes())
    assert told in refused("--resume=run", *words, "--steps=4")


@pytest.mark.parametrize(
    "words, told",
    [
        (["--seed=5"], "the seed (0 there, 5 here)"),
        (["--batch-size=60"], "the batch size (12 there, 60 here)"),
        (["--binarize=dynamic"], "the data ("),
        (["--data=rows.npy"], "the data (digits train "),
        (["--learning-rate=0.002"], "the learning rates (0.001, 0.01 there, 0.002, 0.02 here)"),
    ],
)
def test_21_what_the_resumed_run_will_not_be_is_told(fit, words, told):
    np.save("rows.npy", np.random.default_rng(0).integers(0, 2, (90, 8, 8)).astype(np.uint8))
    assert fit("--steps=80", "--save-every=80")[0] == 0
    code, lines = fit("--resume=run", "--steps=83", "--on-nan=stop", *words)
    assert code == 0, lines
    assert lines[0].startswith(f"resuming with a change of {told}"), lines
    assert lines[0].endswith(": the run will not be what it would have been")
    assert read_latest(Path("run")).step == 83


def test_21_another_number_of_processes_is_told(fit, monkeypatch):
    assert fit()[0] == 0
    monkeypatch.setattr("pplvm.commands.fit.manifest_of", as_if_by_two(monkeypatch))
    code, lines = fit("--resume=run", "--steps=5")
    assert code == 0 and "a change of the number of processes (1 there, 2 here)" in lines[0], lines


def as_if_by_two(monkeypatch):
    from pplvm.commands.runs.manifest import manifest_of

    return lambda arguments, loss, data, processes: manifest_of(arguments, loss, data, 2)


def test_21_nothing_is_told_where_nothing_changed(fit):
    assert fit()[0] == 0
    code, lines = fit("--resume=run", "--steps=6", "--log-every=1", "--validate-every=3")
    assert code == 0 and lines[0].startswith("training "), lines


@pytest.mark.parametrize("schedule", ["constant", "exponential@gamma=0.5"])
def test_21_a_changed_learning_rate_is_obeyed(fit, schedule):
    assert fit(f"--schedule={schedule}", "--steps=2")[0] == 0
    assert fit("--resume=run", "--learning-rate=0.01", "--steps=4")[0] == 0
    rates = [
        group["lr"]
        for group in read_latest(Path("run")).state["parts"]["stepper"]["optimizers"].values()
        for group in group["param_groups"]
    ]
    assert rates == pytest.approx([0.01 * (0.5**4 if "exp" in schedule else 1)] * len(rates))
