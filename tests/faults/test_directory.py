"""Faults 16 to 19 and 24: killed runs, full disks, damaged and malicious files, directories that are taken."""

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import sys
from pathlib import Path

import pytest

from pplvm.training import atomic_write, checkpoint_format
from pplvm.training.checkpoints import read_latest
from tests.faults.conftest import snapshot
from tests.faults.processes import SMALL, started, steps_recorded, wait_until

LEARNED = ("model.safetensors", "state.pt", "manifest.json", "metrics.jsonl", "metrics.csv", "config.yaml")


def learned(run):
    return {name: Path(run, name).read_bytes() for name in LEARNED}


@pytest.mark.slow
def test_16_a_run_killed_twice_learns_what_one_does_that_was_not(fit, rows):
    words = [*SMALL, "--steps=150", "--save-every=2", "--keep=2"]
    for words_now, steps in ((words, 10), (["--resume=run"], 40)):
        with started(*words_now) as process:
            wait_until(lambda steps=steps: steps_recorded() > steps, process)
            process.kill()
        assert process.returncode == -9
    assert 30 < read_latest(Path("run")).step < 150
    assert fit("--resume=run")[0] == 0
    assert fit(*words, "--output=whole")[0] == 0
    assert learned("run") == learned("whole")
    assert not list(Path("run").rglob("*.new"))


@pytest.mark.parametrize("sync", [1, 4, 9, 17])
def test_17_a_disk_that_is_full_at_any_time_loses_nothing(fit, monkeypatch, sync):
    whole, synced = os.fsync, 0

    def full(descriptor):
        nonlocal synced
        synced += 1
        if synced >= sync:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_write.os, "fsync", full)
        code, lines = fit()
    assert code == 2 and "No space left in run" in lines[-1] and "make room or choose another directory" in lines[-1]
    assert len(lines) <= 3 and "MB" in lines[-1], lines
    begun = Path("run/manifest.json").exists()
    assert begun is (sync > 15)
    code, lines = fit(*(["--resume=run"] if begun else []))
    assert code == 0, lines
    assert fit("--output=whole")[0] == 0
    assert learned("run") == learned("whole")


def test_17_a_disk_that_takes_no_large_file(fit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        code, lines = fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2 and "run/checkpoints cannot be written (File too large, need about 0." in lines[-1], lines
    assert fit()[0] == 0  # nothing is in the way of the next try


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


DAMAGE = {
    "flipped": (flipped, "is damaged"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), ""),
    "gone": (Path.unlink, "is missing"),
}


@pytest.mark.parametrize(
    "name, how",
    [("model.safetensors", "flipped"), ("state.pt", "cut"), ("manifest.json", "flipped"), ("state.pt", "gone")],
)
def test_18_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(fit, name, how):
    assert fit()[0] == 0
    shutil.copytree("run", "whole", symlinks=True)
    damage, words = DAMAGE[how]
    damage(Path("run/checkpoints/00000004", name))
    code, lines = fit("--resume=run")
    assert code == 0 and words in lines[0] and f"run/checkpoints/00000004/{name}" in lines[0], lines
    assert learned("run") == learned("whole")


def test_18_a_run_of_which_nothing_is_whole_is_refused(fit, refused):
    assert fit()[0] == 0
    for path in Path("run/checkpoints").glob("*/state.pt"):
        flipped(path)
    told = refused("--resume=run", "--steps=5")
    assert "no checkpoint of run can be read, start anew in another directory" in told and "sha256" in told


class Malicious:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_19_a_malicious_state_is_refused_unread(fit, refused, run):
    assert fit("--keep=1")[0] == 0
    folder = Path("run/checkpoints/00000004")
    folder.joinpath("state.pt").write_bytes(pickle.dumps({"step": Malicious()}))
    reseal(folder)
    told = refused("--resume=run", "--steps=5")
    assert "does not hold plain tensors and numbers" in told and "it may be made to run code, which was not run" in told
    code, lines = run("evaluate", "run")
    assert code == 2 and len(lines) == 1 and "does not hold plain tensors and numbers" in lines[0]
    code, lines = run("compare", "--program=vae", f"--checkpoint={folder / 'state.pt'}", "--output=compared")
    assert code == 2 and len(lines) == 1 and "torch cannot load it as plain tensors" in lines[0], lines
    assert not Path("ran").exists()


def reseal(folder):
    """A manifest that vouches for whatever files there are, as whoever gives a run away can write it."""
    manifest = json.loads(folder.joinpath("manifest.json").read_text())
    for name, seal in manifest["files"].items():
        data = folder.joinpath(name).read_bytes()
        seal |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del manifest["sha256"]
    manifest["sha256"] = hashlib.sha256(checkpoint_format._text(manifest)).hexdigest()
    folder.joinpath("manifest.json").write_bytes(checkpoint_format._text(manifest))


def test_24_a_run_that_is_there_is_kept_unless_it_may_be_replaced(fit, refused):
    assert fit()[0] == 0
    told = refused("--seed=1")
    assert "run exists: go on with it by --resume run, replace it by --overwrite, or name another" in told
    before = snapshot("run")
    assert fit("--seed=1", "--overwrite", "--steps=2")[0] == 0
    after = snapshot("run")
    assert after["run/config.yaml"] != before["run/config.yaml"]
    assert {path.name for path in Path("run/checkpoints").glob("0*")} == {"00000001", "00000002"}


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    "name", ["mine.txt", "figures/mine.png", "checkpoints/mine", "checkpoints/00000004/mine.pt", "best/config.yaml"]
)
def test_24_what_no_run_wrote_is_never_removed(fit, refused, words, name):
    assert fit()[0] == 0
    Path("run", name).parent.mkdir(exist_ok=True)
    Path("run", name).write_text("mine")
    told = refused("--seed=1", *words)
    assert not words or "which no pplvm fit wrote: name another directory with --output" in told


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
def test_24_a_folder_of_ones_own_is_not_taken(refused, words):
    Path("run").mkdir()
    Path("run/config.yaml").write_text("steps: 3\n")
    if words:
        Path("run/thesis.tex").write_text("mine")
    assert "name another directory with --output" in refused(*words)


def test_24_a_start_that_came_to_nothing_is_no_obstacle(fit, marked):
    assert fit("--learning-rate=1e38")[0] == 3
    assert Path("run/failure.json").exists() and read_latest(Path("run")) is None
    assert fit()[0] == 0
    assert not Path("run/failure.json").exists()


@pytest.mark.parametrize("name", ["run", "run/below"])
def test_24_a_file_in_the_way(refused, name):
    Path("run").write_text("mine")
    told = refused(f"--output={name}", "--overwrite")
    assert "run is a file: name another directory" in told or "run/below cannot be written (Not a directory" in told


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in which even root may not write")
def test_24_a_directory_that_cannot_be_written(refused):
    assert "/sys/run cannot be written (" in refused("--output=/sys/run")


def test_24_an_extra_that_is_missing_costs_no_run(fit, refused, monkeypatch):
    assert fit()[0] == 0
    monkeypatch.setattr("pplvm.commands.runs.run_files.find_spec", lambda name: None)
    assert "pip install 'pplvm[tensorboard]'" in refused("--tensorboard", "--overwrite")
    assert "pip install 'pplvm[tensorboard]'" in refused("--tensorboard", "--output=other")


def test_24_a_run_is_resumed_wherever_it_was_moved(fit):
    assert fit()[0] == 0
    shutil.move("run", "moved")
    assert fit("--resume=moved", "--steps=5")[0] == 0
    assert read_latest(Path("moved")).step == 5 and not Path("run").exists()


def test_24_a_run_that_was_judged_and_sampled_may_be_replaced(fit, run, refused):
    assert fit()[0] == 0
    assert run("evaluate", "run", "--ks=1", "--limit=5")[0] == 0 and run("sample", "run", "--count=4")[0] == 0
    Path("run/evaluation-test/mine.txt").write_text("mine")
    assert "evaluation-test/mine.txt" in refused("--overwrite")
    Path("run/evaluation-test/mine.txt").unlink()
    assert fit("--overwrite", "--steps=2")[0] == 0
    assert not Path("run/evaluation-test").exists() and not Path("run/samples").exists()


def test_24_pictures_of_ones_own_are_not_replaced(fit, run):
    assert fit()[0] == 0
    Path("mine").mkdir()
    Path("mine/me.png").write_text("mine")
    for command in ("evaluate", "sample"):
        code, lines = run(command, "run", "--output=mine", "--overwrite")
        assert code == 2 and f"mine holds 'me.png', which no pplvm {command} wrote: name another" in lines[-1], lines
        assert run(command, "run", "--device=abacus")[0] == 2
        assert run(command, "gone")[0] == 2
    assert snapshot("mine") == {"mine/me.png": b"mine"}


VERBS = {
    "fit": ("fit", "--steps=2", "--batch-size=12"),
    "compare": ("compare", "--steps=0", "--estimators=rloo", "--replicates=2", "--batch-size=4", "--sweep="),
    "evaluate": ("evaluate", "run", "--ks=1,2", "--limit=3", "--annealed=0"),
    "sample": ("sample", "run", "--count=4"),
}


def test_24_overwrite_replaces_only_what_the_same_command_wrote(fit, run, monkeypatch):
    monkeypatch.setattr("pplvm.commands.comparison.comparison_files.save_figures", lambda *section: [])
    monkeypatch.setattr("pplvm.commands.output.pictures.Pictures._save", lambda *picture: None)
    assert fit()[0] == 0
    for verb, words in VERBS.items():
        assert run(*words, f"--output=by-{verb}")[0] == 0
    for verb, words in VERBS.items():
        for other in VERBS:
            before = snapshot(f"by-{other}")
            code, lines = run(*words, f"--output=by-{other}", "--overwrite")
            if other == verb:
                assert code == 0, lines
            else:
                assert code == 2 and len(lines) == 1 and "name another directory with --output" in lines[0], lines
                assert snapshot(f"by-{other}") == before
        code, lines = run(*words, f"--output=by-{verb}")
        assert code == 2 and f"by-{verb} exists: " in lines[-1] and "replace it by --overwrite" in lines[-1], lines


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
def test_24_no_link_is_followed(fit, run, words):
    assert fit()[0] == 0
    shutil.copytree("run", "mine", symlinks=True)
    Path("link").symlink_to("mine")
    Path("void").mkdir()
    Path("void/checkpoints").symlink_to("../mine/checkpoints")
    before = snapshot("mine")
    for name in ("link", "void"):
        for verb in VERBS.values():
            code, lines = run(*verb, f"--output={name}", *words)
            assert code == 2 and len(lines) == 1 and "name " in lines[0] and " with --output" in lines[0], lines
    assert snapshot("mine") == before and Path("void/checkpoints").is_symlink()


@pytest.mark.parametrize("name", ["checkpoints", "metrics.csv", "curves.png"])
def test_24_a_run_that_leads_elsewhere_is_not_gone_on_with(fit, refused, name):
    """A stranger's `checkpoints` may be a link to one's photographs, in folders by date, which would be pruned."""
    assert fit()[0] == 0
    Path("mine").mkdir()
    Path("run", name).rename(Path("mine/held"))
    Path("run", name).symlink_to(Path("mine/held").resolve())
    told = refused("--resume=run", "--steps=5")
    assert f"run/{name} is a link, where pplvm fit writes: put what it leads to there" in told
