"""Modules that a user names by import path: installed ones first, then those of the working directory.

The working directory is never put on `sys.path`, where a `sklearn.py` in it could be imported in place of a dependency.
Its modules are found by an import path, and by each other, whenever they ask; nothing else finds them.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType

__all__ = ["import_module", "shadowed"]


def import_module(name: str) -> ModuleType:
    """Import a module that the user named; one of the working directory if no other has that name.

    Raises:
        ModuleNotFoundError: there is none, or one that it imports is missing.
    """
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)  # the last to be asked
    return importlib.import_module(name)


def shadowed(module: ModuleType) -> str:
    """The clause, if any, that another module of the same name lies in the working directory, and was not imported."""
    name = module.__name__.partition(".")[0]
    imported = getattr(sys.modules[name], "__file__", None) or "built in"
    here = [path for path in (Path(f"{name}.py"), Path(name, "__init__.py")) if path.exists()]
    if not here or Path(imported) == here[0].resolve():
        return ""
    return f" (it is {imported}, which comes before {here[0]} here: rename yours)"


class _WorkingDirectory(MetaPathFinder):
    """Finds modules in the working directory for `import_module`, and in the same folder for the modules it found."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}  # of the top-level modules that were found, by name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        importer = _importer()
        folder = os.getcwd() if importer == __name__ else self.folders.get(importer.partition(".")[0])
        if path is not None or folder is None:  # submodules are found by way of their package
            return None
        spec = PathFinder.find_spec(fullname, [folder])
        if spec is not None:
            self.folders[fullname] = folder
        return spec


def _importer() -> str:
    """The name of the module whose code asks for an import."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] not in ("importlib", "_frozen_importlib", "_frozen_importlib_external"):
            return name
        frame = frame.f_back
    return ""


FINDER = _WorkingDirectory()
