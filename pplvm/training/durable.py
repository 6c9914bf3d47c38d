"""Files that are whole or not there, whatever ends the process: written beside, flushed to the disk, renamed."""

__all__ = ["TEMPORARY", "point", "replace_durably", "sweep", "sync", "write_durably", "writing"]

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

TEMPORARY = ".new"  # a name that begins with a dot and ends so is unfinished: whoever finds it may remove it


def write_durably(path: Path, data: bytes) -> None:
    """A new file that is on the disk when this returns; what stands in its place is not there to be kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_durably(Path(folder, "a"), b"x")
        ...     Path(folder, "a").read_bytes()
        b'x'
    """
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, parts: Iterable[bytes]) -> None:
    """A file whose content becomes `parts`, one after the other, at once: a reader sees the old or the new.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     replace_durably(Path(folder, "a"), [b"x", b"y"])
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
    sync(path.parent)


def point(link: Path, target: str) -> None:
    """A symbolic link that leads to `target`, relative to its own folder, from one instant to the next.

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
    sync(link.parent)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished in a folder."""
    for path in folder.glob(f".*{TEMPORARY}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(folder: Path, size: int) -> Iterator[None]:
    """Say where and why writing `size` bytes failed, in a sentence.

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
