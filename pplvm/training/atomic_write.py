"""Atomic, crash-safe file writes: written to a temporary file, fsynced, renamed."""

__all__ = [
    "TEMPORARY",
    "atomic_symlink",
    "atomic_write",
    "remove_temporary_files",
    "sync_folder",
    "write_and_sync",
    "write_errors_explained",
]

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

TEMPORARY = ".new"  # a name that begins with a dot and ends so is unfinished: whoever finds it may remove it


def write_and_sync(path: Path, data: bytes) -> None:
    """Write a new file and fsync it; an existing file at its path may be lost in a crash.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_and_sync(Path(folder, "a"), b"x")
        ...     Path(folder, "a").read_bytes()
        b'x'
    """
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: Path, parts: Iterable[bytes]) -> None:
    """Replace a file atomically by `parts` in a row: readers see the old content or the new.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atomic_write(Path(folder, "a"), [b"x", b"y"])
        ...     Path(folder, "a").read_bytes(), len(list(Path(folder).iterdir()))
        (b'xy', 1)
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def atomic_symlink(link: Path, target: str) -> None:
    """Replace a symbolic link atomically; `target` is relative to its folder.

    Raises:
        ValueError: a file or a folder has the link's name.
    """
    if link.is_symlink() and os.readlink(link) == target:
        return
    if link.exists() and not link.is_symlink():
        raise ValueError(f"{link} is no link, but should lead to {target}: move it away (a copy followed the links?)")
    temporary = _temporary(link)
    temporary.unlink(missing_ok=True)
    try:
        os.symlink(target, temporary)
        os.replace(temporary, link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(link.parent)


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that its names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for path in folder.glob(f".*{TEMPORARY}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors_explained(folder: Path, size: int) -> Iterator[None]:
    """Within this context, say where and why writing `size` bytes failed, in a sentence.

    Raises:
        OSError: of the same number as the one that it translates.
    """
    try:
        yield
    except OSError as error:
        need = f"need about {size / 1e6:.1f} MB"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"No space left in {folder} ({need}): make room or choose another directory"
        else:
            reason = f"{folder} cannot be written ({error.strerror or error}, {need}): choose a directory that can"
        raise OSError(error.errno, reason) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY}")
