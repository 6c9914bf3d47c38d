"""Files and links that change at once, and what is said when they cannot."""

import errno
import os
from pathlib import Path

import pytest

from pplvm.training.atomic_write import (
    atomic_symlink,
    atomic_write,
    remove_temporary_files,
    write_and_sync,
    write_errors_explained,
)


def test_a_replacement_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a"
    atomic_write(path, [b"old"])

    def parts():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, parts())
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_a_link_is_turned_and_never_gone(tmp_path, monkeypatch):
    link = tmp_path / "link"
    atomic_symlink(link, "one")
    monkeypatch.setattr(os, "unlink", lambda *_, **__: pytest.fail("the link was removed"))
    (tmp_path / ".link.new").symlink_to("a killed process's")
    monkeypatch.undo()
    atomic_symlink(link, "two")
    assert os.readlink(link) == "two" and os.listdir(tmp_path) == ["link"]


def test_what_is_no_link_is_not_replaced(tmp_path):
    (tmp_path / "link").write_text("mine")
    with pytest.raises(ValueError, match="link is no link, but should lead to one: move it away"):
        atomic_symlink(tmp_path / "link", "one")


def test_only_unfinished_files_are_swept(tmp_path):
    for name in (".a.new", ".hidden", "b.new", "c"):
        (tmp_path / name).touch()
    remove_temporary_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "b.new", "c"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_with_what_is_needed():
    with pytest.raises(OSError, match=r"No space left in runs/a \(need about 2.5 MB\): make room") as caught:
        with write_errors_explained(Path("runs/a"), 2_500_000):
            write_and_sync(Path("/dev/full"), b"x")
    assert caught.value.errno == errno.ENOSPC


def test_another_failure_is_said_with_its_reason(tmp_path):
    with pytest.raises(FileNotFoundError, match="runs cannot be written .No such file or directory, need about 0.0 MB"):
        with write_errors_explained(Path("runs"), 0):
            write_and_sync(tmp_path / "gone" / "a", b"x")
