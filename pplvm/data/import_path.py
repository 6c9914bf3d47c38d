"""Imports modules that a user names: installed ones first, then those of the current directory.

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

__all__ = ["import_module", "locate", "shadowed"]


def import_module(name: str) -> ModuleType:
    """Import a module that the user named, from the current directory if no installed one has that name.

    Raises:
        ModuleNotFoundError: there is none, or one that it imports is missing.
    """
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)  # the last to be asked
    return importlib.import_module(name)


def locate(name: str) -> list[str] | None:
    """Find where `import_module` would find a module and its parent packages, outermost first, without running code.

    Files, of which folders are real paths, and folders of packages that have no file; None if there is no such module.

    Example:
        >>> [Path(place).name for place in locate("email.mime.text")]
        ['__init__.py', '__init__.py', 'text.py']
    """
    found: list[str] = []
    folders: list[str] | None = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:depth]), folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or ())
        place = Path(spec.origin) if spec.has_location and spec.origin else None
        found.append(str(spec.origin or folders) if place is None else str(place.parent.resolve() / place.name))
    return found


def _spec(fullname: str, folders: list[str] | None) -> ModuleSpec | None:
    """The spec of a module whose package lies in the folders; None for a module in none."""
    if (loaded := sys.modules.get(fullname)) is not None and loaded.__spec__ is not None:
        return loaded.__spec__
    try:
        for finder in (each for each in sys.meta_path if each is not FINDER):
            if (spec := finder.find_spec(fullname, folders)) is not None:
                return spec
    except (ImportError, ValueError):
        return None
    return PathFinder.find_spec(fullname, [os.getcwd()]) if folders is None else None


def shadowed(module: ModuleType) -> str:
    """A clause for messages: a module of the current directory has the same name and was not imported; else empty."""
    name = module.__name__.partition(".")[0]
    imported = getattr(sys.modules[name], "__file__", None) or "built in"
    here = [path for path in (Path(f"{name}.py"), Path(name, "__init__.py")) if path.exists()]
    if not here or Path(imported) == here[0].resolve():
        return ""
    return f" (it is {imported}, which comes before {here[0]} here: rename yours)"


class _WorkingDirectory(MetaPathFinder):
    """A meta path finder for modules of the current directory, and for imports among them."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}  # of the top-level modules that were found, by name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        importer = _importer()
        folder = os.getcwd() if importer == __name__ else self.folders.get(importer.partition(".")[0])
        if path is not None or folder is None:  # submodules are found by way of their package
            return None
        for each in dict.fromkeys([folder, *_own_folder(importer)]):
            spec = PathFinder.find_spec(fullname, [each])
            if spec is not None:
                self.folders[fullname] = each
                return spec
        return None


def _own_folder(importer: str) -> list[str]:
    """The folder below the current directory that a module lies in, whose neighbours it may import by name."""
    file = getattr(sys.modules.get(importer), "__file__", None)
    return [os.path.dirname(file)] if file and importer != __name__ else []


def _importer() -> str:
    """The name of the module that executes the import."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] not in ("importlib", "_frozen_importlib", "_frozen_importlib_external"):
            return name
        frame = frame.f_back
    return ""


FINDER = _WorkingDirectory()
