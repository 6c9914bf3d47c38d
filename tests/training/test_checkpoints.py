"""The checkpoints of a run: kept, found, replaced, and whole whatever the disk does."""

import errno
import hashlib
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pplvm.training import checkpoints as module
from pplvm.training.checkpoints import Checkpoints, read_best, read_checkpoint, read_latest

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
TOP = ("manifest.json", "model.safetensors", "state.pt")


def save(checkpoints, step, best=False, size=4):
    weights = {"w": torch.full((size,), float(step))}
    return checkpoints.save(step, weights, {"step": step}, {"seed": 0}, best=best)


def names(directory):
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def whole(directory):
    """Everything in a directory by its relative path: what a file holds, where a link leads."""
    return {
        str(path.relative_to(directory)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def damage(folder, name="state.pt"):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-7])


def test_nothing_is_found_where_nothing_was_saved(tmp_path):
    assert read_latest(tmp_path) is None and read_best(tmp_path) is None
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.latest() is None and checkpoints.best() is None


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (100, 200, 300, 400, 500):
        path = save(checkpoints, step, best=step == 200)
        assert path == tmp_path / "checkpoints" / f"{step:08d}"
    assert names(tmp_path) == [".lock", "00000200", "00000400", "00000500", "best", "latest"]
    assert (checkpoints.latest().step, checkpoints.best().step) == (500, 200)
    save(checkpoints, 600, best=True)
    assert names(tmp_path) == [".lock", "00000500", "00000600", "best", "latest"]


def test_one_may_be_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in range(3):
        save(checkpoints, step)
    assert names(tmp_path) == [".lock", "00000002", "latest"]
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_the_run_s_own_files_are_those_of_the_latest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        folder = save(checkpoints, step)
        assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in TOP)
    assert read_checkpoint(tmp_path).path == folder == read_checkpoint(folder).path
    assert all(not os.path.isabs(os.readlink(tmp_path / name)) for name in TOP)


def test_a_run_that_was_moved_or_copied_is_found(tmp_path):
    save(Checkpoints(tmp_path / "a"), 3)
    os.rename(tmp_path / "a", tmp_path / "b")
    assert read_latest(tmp_path / "b").step == read_checkpoint(tmp_path / "b").step == 3
    subprocess.run(["cp", "-rL", tmp_path / "b", tmp_path / "c"], check=True)  # as scp does, following the links
    assert read_latest(tmp_path / "c").step == read_checkpoint(tmp_path / "c").step == 3
    with pytest.raises(ValueError, match="latest stands where a link to a checkpoint belongs: move it away"):
        Checkpoints(tmp_path / "c")


SAVED = """
import sys, torch
from pathlib import Path
from pplvm.training.checkpoints import Checkpoints
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
adam = torch.optim.Adam(net.parameters())
net(torch.randn(5, 3)).square().sum().backward()
adam.step()
state = {"adam": adam.state_dict(), "noise": torch.get_rng_state(), "n": 1}
Checkpoints(Path(sys.argv[1])).save(1, net.state_dict(), state, {"seed": 0, "versions": {"torch": torch.__version__}})
"""


def test_two_processes_write_the_same_bytes_in_different_places(tmp_path, monkeypatch):
    """This one, and one that does nothing else."""
    places = tmp_path / "a", tmp_path / "a longer name" / "deeper"
    subprocess.run([sys.executable, "-c", SAVED, places[0]], env=ENVIRONMENT, check=True)
    monkeypatch.setattr(sys, "argv", ["-c", str(places[1])])
    exec(SAVED, {})
    first, second = map(whole, places)
    assert first == second
    assert {"checkpoints/00000001/state.pt", "state.pt", "checkpoints/latest"} < set(first)


def test_a_state_that_was_read_saves_to_the_same_bytes(tmp_path):
    net = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam([{"params": net.weight}, {"params": net.bias, "lr": 0.1}], amsgrad=True)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(adam, [1, 5])
    net(torch.ones(3)).sum().backward()
    adam.step()
    scheduler.step()
    first = Checkpoints(tmp_path / "a").save(
        1, net.state_dict(), {"adam": adam.state_dict(), "rate": scheduler.state_dict()}, {}
    )
    found = read_checkpoint(first)
    net.load_state_dict(found.weights)
    adam.load_state_dict(found.state["adam"])
    scheduler.load_state_dict(found.state["rate"])
    again = Checkpoints(tmp_path / "b").save(
        1, net.state_dict(), {"adam": adam.state_dict(), "rate": scheduler.state_dict()}, {}
    )
    assert whole(first) == whole(again)


@pytest.mark.parametrize("name", TOP)
@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_the_newest_readable_one_is_found_and_the_damaged_ones_are_reported(tmp_path, name, how):
    checkpoints = Checkpoints(tmp_path, keep=3)
    folders = [save(checkpoints, step) for step in (1, 2, 3)]
    for folder in folders[1:]:
        path = folder / name
        data = bytearray(path.read_bytes())
        if how == "flipped":
            data[len(data) // 2] ^= 16
        path.unlink() if how == "gone" else path.write_bytes(data[:-3] if how == "cut" else data)
    found = checkpoints.latest()
    assert found.step == 1 and found.weights["w"].tolist() == [1.0] * 4
    assert len(found.skipped) == 2
    for folder, sentence in zip(reversed(folders[1:]), found.skipped, strict=True):
        assert str(folder / name) in sentence and sentence.endswith("use another checkpoint")


def test_none_that_can_be_read_is_no_reason_to_start_over_silently(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        damage(save(checkpoints, step))
    sentence = f"no checkpoint of {re.escape(str(tmp_path))} can be read.*00000002/state.pt is cut short"
    with pytest.raises(ValueError, match=sentence):
        checkpoints.latest()


def test_a_damaged_best_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    damage(save(checkpoints, 1, best=True))
    save(checkpoints, 2)
    with pytest.raises(ValueError, match="00000001/state.pt is cut short"):
        checkpoints.best()
    assert checkpoints.latest().step == 2


@pytest.mark.parametrize("link", ["removed", "dangling"])
def test_without_the_link_the_newest_is_found(tmp_path, link):
    checkpoints = Checkpoints(tmp_path)
    for step in (99_999_999, 100_000_000):
        folder = save(checkpoints, step)
    if link == "removed":
        (tmp_path / "checkpoints" / "latest").unlink()
    else:
        os.rename(folder, tmp_path / "moved")
    found = checkpoints.latest()
    assert found.step == (100_000_000 if link == "removed" else 99_999_999)
    assert len(found.skipped) == (link == "dangling")


def test_a_resumed_run_replaces_the_steps_that_it_takes_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (10, 20, 30):
        save(checkpoints, step)
    damage(tmp_path / "checkpoints" / "00000030")
    checkpoints = Checkpoints(tmp_path, keep=3)
    assert checkpoints.latest().step == 20
    assert save(checkpoints, 30).name == "00000030.1"
    assert names(tmp_path) == [".lock", "00000010", "00000020", "00000030.1", "latest"]
    assert checkpoints.latest().step == 30 and checkpoints.latest().skipped == ()
    save(checkpoints, 15)
    assert names(tmp_path) == [".lock", "00000010", "00000015", "latest"]


def test_a_reader_follows_a_run_that_goes_on(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 1)
    read, steps = module.read_checkpoint, iter((2, 3))

    def slowly(path):
        if (step := next(steps, None)) is not None:
            save(checkpoints, step)  # and what was to be read is removed
        return read(path)

    monkeypatch.setattr(module, "read_checkpoint", slowly)
    found = read_latest(tmp_path)
    assert (found.step, found.skipped) == (3, ())


def test_what_a_killed_process_left_is_swept(tmp_path):
    save(Checkpoints(tmp_path), 1)
    (tmp_path / "checkpoints" / ".00000002.new").mkdir()
    (tmp_path / "checkpoints" / ".00000002.new" / "state.pt").write_bytes(b"half")
    (tmp_path / "checkpoints" / ".latest.new").symlink_to("00000002")
    (tmp_path / ".state.pt.new").symlink_to("nowhere")
    (tmp_path / "notes.new").write_text("mine")
    Checkpoints(tmp_path)
    assert names(tmp_path) == [".lock", "00000001", "latest"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", *TOP[:2], "notes.new", TOP[2]]


def test_two_processes_cannot_save_in_one_directory(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    code = "import sys; from pathlib import Path; from pplvm.training.checkpoints import Checkpoints, read_latest\n"
    code += "print(read_latest(Path(sys.argv[1])).step, flush=True); Checkpoints(Path(sys.argv[1]))"
    save(checkpoints, 4)
    other = [sys.executable, "-c", code, tmp_path]
    refused = subprocess.run(other, capture_output=True, text=True, env=ENVIRONMENT)
    assert refused.stdout == "4\n", "reading is free"
    assert "ValueError: another process saves checkpoints in " in refused.stderr
    del checkpoints
    assert subprocess.run(other, capture_output=True, env=ENVIRONMENT).returncode == 0


# ---------------------------------------------------------------- the disk


def test_a_place_that_cannot_be_written_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file/run cannot be written .Not a directory.*: choose a directory"):
        Checkpoints(tmp_path / "file" / "run")
    (tmp_path / "state.pt").write_bytes(b"mine")
    with pytest.raises(ValueError, match="state.pt stands where a link to a checkpoint belongs"):
        Checkpoints(tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written .Permission denied"):
        Checkpoints(tmp_path)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A limit on the size of a file stands for it: the kernel refuses in the middle of a real write."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    before = whole(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot be written \(File too large, need about 0.8 MB\)") as caught:
            save(checkpoints, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert whole(tmp_path) == before
    save(checkpoints, 2, size=100_000)
    assert checkpoints.latest().step == 2


OPERATIONS = ("fsync", "mkdir", "rename", "replace", "symlink")


def test_a_disk_that_fails_at_any_operation_leaves_what_was_there(tmp_path):
    failed, n = 0, 0
    while failed == n:
        n += 1
        directory = tmp_path / str(n)
        checkpoints = Checkpoints(directory)
        save(checkpoints, 1, best=True)
        with pytest.MonkeyPatch.context() as patch:
            full_after(n, patch)
            try:
                save(checkpoints, 2, best=True)
            except OSError as error:
                failed += 1
                assert error.errno == errno.ENOSPC
                assert "No space left in" in str(error) and "(need about 0.0 MB): make room" in str(error)
        assert checkpoints.latest().step in ((1, 2) if failed == n else (2,))
        assert checkpoints.latest().skipped == () and checkpoints.best().step in (1, 2)
        assert not [name for name in names(directory) if name.endswith(".new")]
        save(checkpoints, 3)
        assert checkpoints.latest().step == 3
    assert failed > 8


def full_after(n, patch):
    """The n-th operation on the disk, and all that need room after it, find it full."""
    done = 0

    def failing(operation):
        def call(*arguments, **settings):
            nonlocal done
            done += 1
            if done >= n:
                raise OSError(errno.ENOSPC, "No space left on device")
            return operation(*arguments, **settings)

        return call

    for name in OPERATIONS:
        patch.setattr(os, name, failing(getattr(os, name)))


def test_everything_is_on_the_disk_before_a_name_leads_to_it(tmp_path, monkeypatch):
    checkpoints, log = Checkpoints(tmp_path), []
    sync, rename, replace = os.fsync, os.rename, os.replace

    def logged_sync(descriptor):
        log.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", logged_sync)
    monkeypatch.setattr(os, "rename", lambda a, b: (log.append(("name", Path(b).name)), rename(a, b)))
    monkeypatch.setattr(os, "replace", lambda a, b: (log.append(("name", Path(b).name)), replace(a, b)))
    folder = save(checkpoints, 1)
    named, flipped = log.index(("name", "00000001")), log.index(("name", "latest"))
    for path in (*(folder / name for name in TOP), folder):
        assert ("sync", path.stat().st_ino) in log[:named]
    inner = ("sync", (tmp_path / "checkpoints").stat().st_ino)
    assert inner in log[named:flipped] and inner in log[flipped:]


def test_equal_states_have_equal_checksums_wherever_they_are_saved(tmp_path):
    sums = set()
    for place in ("a", "b"):
        folder = save(Checkpoints(tmp_path / place), 5)
        sums.add(tuple(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TOP))
    assert len(sums) == 1
