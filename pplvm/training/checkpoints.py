"""Checkpoints of a run: written atomically, verified by checksum, read without running code.

RUN/model.safetensors, state.pt, manifest.json -> checkpoints/latest/...    links, so the three belong together
RUN/checkpoints/latest -> 00000500, best -> 00000450                        flipped in one instant
RUN/checkpoints/00000500/{model.safetensors, state.pt, manifest.json}       written elsewhere, synced, renamed
"""

__all__ = ["Checkpoint", "Checkpoints", "read_best", "read_checkpoint", "read_latest"]

import dataclasses
import errno
import fcntl
import os
import re
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pplvm.training.atomic_write import (
    TEMPORARY,
    atomic_symlink,
    remove_temporary_files,
    sync_folder,
    write_and_sync,
    write_errors_explained,
)
from pplvm.training.checkpoint_format import MANIFEST, OTHER, STATE, WEIGHTS, decode_checkpoint, encode_checkpoint


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of one checkpoint: step, weights, state, manifest.

    Arguments:
        path: its folder.
        step: at which it was saved.
        weights: by name, on the CPU.
        state, manifest: as they were given to `Checkpoints.save`; tuples of the manifest are lists.
        skipped: why newer checkpoints could not be read, a sentence each.
    """

    path: Path
    step: int
    weights: dict[str, Tensor]
    state: dict[Any, Any]
    manifest: dict[str, Any]
    skipped: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints of one run; created before the first step by the one process that saves.

    Arguments:
        directory: of the run; made if it is not there.
        keep: how many of the newest are kept, at least 1; the best is kept beside them.

    Raises:
        OSError: nothing can be written there. ValueError: another process saves there, or a file that is
            no link stands where a link belongs.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = Checkpoints(Path(folder)).save(3, {"w": torch.ones(2)}, {"lr": 0.1}, {"seed": 0})
        ...     found = read_latest(Path(folder))
        >>> saved.name, found.step, found.weights["w"].tolist(), found.state, found.manifest
        ('00000003', 3, [1.0, 1.0], {'lr': 0.1}, {'seed': 0})
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self._directory, self._folder, self._keep = Path(directory), Path(directory, "checkpoints"), keep
        with write_errors_explained(self._directory, 0):
            self._folder.mkdir(parents=True, exist_ok=True)
            weakref.finalize(self, os.close, _locked(self._folder / ".lock"))
            for folder in (self._directory, self._folder):
                remove_temporary_files(folder)
            self._try_out()

    def save(
        self,
        step: int,
        weights: Mapping[str, Tensor],
        state: dict[Any, Any],
        manifest: Mapping[str, Any],
        best: bool = False,
    ) -> Path:
        """Write a checkpoint, mark it as the latest and remove old ones; returns its folder.

        A checkpoint of this step or a later one, left by a run that was resumed before it, is removed.

        Arguments:
            step: how many steps were taken.
            weights: by name, as `module.state_dict()` gives them.
            state: tensors and primitives, nested.
            manifest: anything that JSON holds; equal arguments give equal files.
            best: whether it is the best so far.

        Raises:
            TypeError: something cannot be saved so that it can be read back. OSError: the disk is full, or
                fails otherwise; the checkpoints before are as they were.
        """
        files = encode_checkpoint(step, weights, state, manifest)
        name = self._free_name(step)
        temporary, final = self._folder / f".{name}{TEMPORARY}", self._folder / name
        with write_errors_explained(self._folder, sum(map(len, files.values()))):
            remove_temporary_files(self._folder)
            try:
                temporary.mkdir()
                for file, data in files.items():
                    write_and_sync(temporary / file, data)
                sync_folder(temporary)
                os.rename(temporary, final)
                sync_folder(self._folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            if best:
                atomic_symlink(self._folder / "best", name)
            atomic_symlink(self._folder / "latest", name)
            for file in files:
                atomic_symlink(self._directory / file, f"checkpoints/latest/{file}")
            self._prune(name, step)
        return final

    def latest(self) -> Checkpoint | None:
        """Read the latest checkpoint, as `read_latest`."""
        return read_latest(self._directory)

    def best(self) -> Checkpoint | None:
        """Read the best checkpoint, as `read_best`."""
        return read_best(self._directory)

    def _try_out(self) -> None:
        """Try everything that saving needs: a file, a link, and no other files in their places."""
        for link in (
            self._folder / "latest",
            self._folder / "best",
            *map(self._directory.joinpath, (WEIGHTS, STATE, MANIFEST)),
        ):
            if link.exists() and not link.is_symlink():
                raise ValueError(f"{link} stands where a link to a checkpoint belongs: move it away")
        trial = self._folder / f".trial{TEMPORARY}"
        write_and_sync(trial, b"x")
        trial.unlink()
        os.symlink("trial", trial)
        trial.unlink()

    def _free_name(self, step: int) -> str:
        same = [_number(path)[1] for path in _numbered(self._folder) if _number(path)[0] == step]
        return f"{step:08d}.{max(same) + 1}" if same else f"{step:08d}"

    def _prune(self, name: str, step: int) -> None:
        """Remove all checkpoints but `name`, the newest before it and the best."""
        found = _numbered(self._folder)
        older = [path.name for path in found if _number(path)[0] < step]
        stay = {name, *older[: self._keep - 1], _target(self._folder / "best")}
        for path in found:
            if path.name not in stay:
                gone = path.with_name(f".{path.name}{TEMPORARY}")
                os.rename(path, gone)
                shutil.rmtree(gone, ignore_errors=True)


Foreign = Callable[[Mapping[str, Any]], str | None]
"""Why a manifest is not of the run whose checkpoints are read; None if it is."""


def read_latest(directory: Path, foreign: Foreign = lambda manifest: None) -> Checkpoint | None:
    """Read the latest valid checkpoint of a run; None if it has none.

    Arguments:
        directory: of the run; it is only read.
        foreign: says why a checkpoint is another run's, by its manifest; such a one is skipped.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    folder, skipped = Path(directory, "checkpoints"), []
    linked = _target(folder / "latest")
    if linked and (astray := _astray(folder / "latest")):
        linked, skipped = None, [astray]
    names = dict.fromkeys(([linked] if linked else []) + [path.name for path in _numbered(folder)])
    for name in names:
        try:
            return dataclasses.replace(_own(folder / name, foreign), skipped=tuple(skipped))
        except ValueError as error:
            if linked and _target(folder / "latest") != linked:
                return read_latest(directory, foreign)  # the run saved another one meanwhile
            skipped.append(str(error))
    if skipped:
        raise ValueError(f"no checkpoint of {directory} can be read, start anew in another directory: {skipped[0]}")
    return None


def read_best(directory: Path, foreign: Foreign = lambda manifest: None) -> Checkpoint | None:
    """Read the checkpoint that was saved as the best of a run; None if there is none.

    Arguments:
        directory: of the run; it is only read.
        foreign: as in `read_latest`.

    Raises:
        ValueError: it cannot be read, or is another run's.
    """
    link = Path(directory, "checkpoints", "best")
    name = _target(link)
    if name and (astray := _astray(link)):
        raise ValueError(astray)
    return _own(link.with_name(name), foreign) if name else None


def _own(path: Path, foreign: Foreign) -> Checkpoint:
    """A checkpoint checked to belong to the run.

    Raises:
        ValueError: it is not, or cannot be read.
    """
    found = read_checkpoint(path)
    if reason := foreign(found.manifest):
        raise ValueError(f"{path} is another run's, {reason}: {OTHER}")
    return found


def _astray(link: Path) -> str | None:
    """The target of a link that leads out of its folder; None if it does not."""
    led = Path(os.path.normpath(link.parent / os.readlink(link))).parent
    if led.resolve() == link.parent.resolve():
        return None
    return f"{link} leads to {os.readlink(link)}, which is no checkpoint of this run: {OTHER}"


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: verify size and sha256 of every file, then parse it without running code.

    Arguments:
        path: of a checkpoint's folder, or of a run's, which stands for its latest.

    Raises:
        ValueError: a file is missing, damaged or no such file, or holds more than tensors and primitives.
    """
    folder = Path(os.path.realpath(Path(path, MANIFEST))).parent  # once: the three files of one checkpoint
    return Checkpoint(folder, *decode_checkpoint(folder))


def _numbered(folder: Path) -> list[Path]:
    """The checkpoint folders, newest first."""
    return sorted((path for path in folder.glob("*") if _number(path) and path.is_dir()), key=_number, reverse=True)


def _number(path: Path) -> tuple[int, ...]:
    """The step of a checkpoint folder and its number among those of this step; empty for other names."""
    found = re.fullmatch(r"(\d{8,})(?:\.(\d+))?", path.name)
    return (int(found[1]), int(found[2] or 0)) if found else ()


def _target(link: Path) -> str | None:
    """The name of the folder that a link points to, existing or not."""
    return Path(os.readlink(link)).name if link.is_symlink() else None


def _locked(path: Path) -> int:
    """Lock a file against other processes; the lock ends with the descriptor or the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a forked worker would hold it too
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):  # any other: a file system without locks
            os.close(descriptor)
            raise ValueError(
                f"another process saves checkpoints in {path.parent}: wait for its end, or choose another directory"
            ) from error
    return descriptor
