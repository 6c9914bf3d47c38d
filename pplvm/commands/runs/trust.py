"""Remembers, outside of the run directory, which code of a run the user has typed or trusted by --trust.

A run directory may be a stranger's, so nothing in it says whether its code may be run. A file of the user's own does,
one for each run, and only all of it together counts: the run's name and directory, the working directory, whatever
names code, and the files that this leads to.
"""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplvm.commands.runs.user_modules import module_named
from pplvm.data.import_path import locate

__all__ = ["NAMING_CODE", "own_modules", "remember", "remembered"]

NAMING_CODE = {"program": "", "objective": "@", "data": "", "optimizer": "@"}
"""Options whose value may be an import path, and what ends it there; those within pplvm can be made to run any code."""

MOVED_BY = "PPLVM_STATE_HOME"
"""The environment variable that names another folder for what is remembered."""

LARGEST = 2**16
"""Bytes of a file of ours: a hundred times what is written."""

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def own_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """The user's own modules that settings name, by option.

    Example:
        >>> own_modules({"program": "my_story:Story", "objective": "rloo@num_particles=2"})
        {'program': 'my_story'}
    """
    found = {}
    for name, end in NAMING_CODE.items():
        value = str(config.get(name) or "")
        if name in ("data", "optimizer") and ":" not in value:  # a file or a folder, or one of torch's
            continue
        if (module := module_named(value.partition(end)[0] if end else value)) is not None:
            found[name] = module
    return found


def remember(directory: Path, run: str | None, config: Mapping[str, Any]) -> None:
    """Remember that the user has typed or trusted all code that a run names, if it names any.

    Nothing is kept, and nothing said, where the folder cannot be written or others can write to it.

    Arguments:
        directory: of the run.
        run: what the run calls itself.
        config: its settings.
    """
    if run is None or not own_modules(config):
        return
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no home, a full disk, a module that lies nowhere
        path = _path(directory)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(_entry(directory, run, config), indent=1) + "\n"
        if not _is_ours(os.stat(path.parent)) or _read(path) == text:
            return
        _forget_what_is_gone(path.parent)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")  # which has mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def remembered(directory: Path, run: str | None, config: Mapping[str, Any]) -> bool:
    """Whether the user has trusted this run, in this place, with code from the same files.

    Arguments:
        As of `remember`, the settings as they now stand in the run's directory.
    """
    if run is None:
        return False
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return _read(_path(directory)) == json.dumps(_entry(directory, run, config), indent=1) + "\n"
    return False


def _entry(directory: Path, run: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree for trust to hold, found without importing anything."""
    return {
        "run": run,
        "directory": os.path.realpath(directory),
        "working_directory": os.path.realpath(os.getcwd()),
        "named": {name: str(config.get(name)) for name in (*NAMING_CODE, "set")},
        "files": {module: _files(module) for module in sorted(set(own_modules(config).values()))},
    }


def _files(module: str) -> list[list[str]]:
    """The files of a module and of its parent packages, symbolic links resolved.

    Raises:
        ValueError: there is no such module.
    """
    found = locate(module)
    if found is None:
        raise ValueError(f"there is no module {module}")
    return [[place, os.path.realpath(place)] for place in found]


def _path(directory: Path) -> Path:
    """The file for one run directory.

    Raises:
        RuntimeError: the user has no home.
    """
    name = hashlib.sha256(os.path.realpath(directory).encode()).hexdigest()[:32]
    return _folder() / f"{name}.json"


def _folder() -> Path:
    if moved := os.environ.get(MOVED_BY):
        return Path(moved) / "trusted"
    state = Path(os.environ.get("XDG_STATE_HOME") or "")
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "pplvm" / "trusted"


def _read(path: Path) -> str | None:
    """Read a file that only this user can have written, in a folder that only this user can write to."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe is not waited for
    except FileNotFoundError:
        return None
    with open(descriptor, encoding="utf-8") as file:
        status = os.fstat(descriptor)
        safe = stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST
        return file.read() if safe and _is_ours(status) and _is_ours(os.stat(path.parent)) else None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & WRITABLE_BY_OTHERS


def _forget_what_is_gone(folder: Path) -> None:
    """Remove the entries of runs whose directory no longer exists."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if not os.path.isdir(json.loads(_read(path) or "null")["directory"]):
                path.unlink()
