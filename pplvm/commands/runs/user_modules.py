"""Import paths of a user's own modules: `my_story.py` on the command line means `my_story:MyProgram`."""

import argparse
import ast
import os
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pplvm.catalog import DATASETS, OBJECTIVES, PROGRAMS
from pplvm.data.import_path import import_module, locate, shadowed

__all__ = ["import_path_of", "module_named", "with_import_paths"]

CATALOG = {**PROGRAMS, **OBJECTIVES, **DATASETS}
"""Names that mean what pplvm has, whatever files lie in the working directory."""


def with_import_paths(arguments: argparse.Namespace) -> None:
    """Replace file names by import paths in the options for program, objective, data and optimizer.

    Raises:
        ValueError, LookupError, FileNotFoundError: as `import_path_of`.
    """
    for option in ("program", "objective", "estimator", "estimators", "data", "optimizer"):
        value = getattr(arguments, option, None)
        kind = "program" if option == "program" else "objective"
        if isinstance(value, list):
            setattr(arguments, option, [import_path_of(each, kind) for each in value])
        elif option == "estimators" and value:
            setattr(arguments, option, ",".join(import_path_of(each, kind) for each in value.split(",")))
        elif option in ("data", "optimizer"):
            if value and ".py:" in value:
                setattr(arguments, option, import_path_of(value, kind))
        elif value:
            setattr(arguments, option, import_path_of(value, kind))


def import_path_of(words: str, kind: str) -> str:
    """Turn `my_story.py`, `my_story.py:Name` or `my_story` into `my_story:Name`; keep all else as it is.

    Arguments:
        kind: "program" or "objective", of which a file that is named alone must hold exactly one.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not below the working directory, or holds none or
            several. LookupError: another module of that name comes before it.

    Example:
        >>> import_path_of("vae", "program"), import_path_of("my_story:MyProgram", "program")
        ('vae', 'my_story:MyProgram')
    """
    words, at, settings = words.partition("@") if kind == "objective" else (words, "", "")
    place, _, name = words.partition(":")
    if not is_file_name(place) and (name or module_named(words) is None):
        return words + at + settings
    module = _module_of(place) if is_file_name(place) else place
    return f"{module}:{name or _only_one(module, place, kind)}{at}{settings}"


def is_file_name(word: str) -> bool:
    return word.endswith(".py")


def module_named(words: str) -> str | None:
    """The user's module that a name refers to, however it is written; None for names of the catalog.

    Example:
        >>> module_named("my_story:MyProgram"), module_named("my_story.py"), module_named("rloo")
        ('my_story', 'my_story', None)
    """
    place, colon, _ = words.partition(":")
    if is_file_name(place):
        return ".".join(Path(place).with_suffix("").parts)
    if colon:
        return place
    is_here = place.isidentifier() and (Path(f"{place}.py").is_file() or Path(place, "__init__.py").is_file())
    return place if is_here and place not in CATALOG else None


def _module_of(place: str) -> str:
    """The module name under which a file is imported.

    Raises:
        FileNotFoundError, ValueError, LookupError: as `import_path_of`.
    """
    path = Path(place)
    if not path.is_file():
        there = [str(each) for each in (path.parent if path.parent.is_dir() else Path()).glob("*.py")]
        close = get_close_matches(place, there, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        raise FileNotFoundError(f"there is no file {place} here ({os.getcwd()}){hint}")
    here, folder = Path.cwd().resolve(), path.parent.resolve()
    if not folder.is_relative_to(here):
        raise ValueError(f"{place} is not below the working directory: run pplvm in {folder}")
    parts = [*folder.relative_to(here).parts, *([] if path.stem == "__init__" else [path.stem])]
    if not parts or not all(part.isidentifier() for part in parts):
        raise ValueError(
            f"{place} cannot be imported under that name: use letters, digits and _ only, or run in {folder}"
        )
    module = ".".join(parts)
    found = locate(module)
    if found is None or Path(found[-1]) != folder / path.name:
        before = f"another {parts[0]}" if found is None else found[-1]
        raise LookupError(f"{place} would be imported as {module}, but {before} comes before it: rename yours")
    return module


def _only_one(name: str, place: str, kind: str) -> str:
    """The name of the only program, or objective, that a module defines.

    Raises:
        ValueError: it defines none, or several.
    """
    module = import_module(name)
    found = list(dict.fromkeys(_defined(module, _is_program if kind == "program" else _is_objective)))
    if len(found) == 1:
        return found[0]
    file = f"{name}.py" if not is_file_name(place) else place
    if found:
        raise ValueError(f"{file} has {len(found)} {kind}s, {', '.join(found)}: name one, as {file}:{found[-1]}")
    what = "nn.Module with methods model(x) and guide(x)" if kind == "program" else "pyro.infer.ELBO"
    raise ValueError(
        f"{file} has no {kind}{shadowed(module)}, a class that is an {what}: write one, or, if a function makes it, "
        f"name that, as {file}:make"
    )


def _defined(module: ModuleType, fits: Callable[[Any], bool]) -> Iterator[str]:
    """The public names that a module itself defines, each object once."""
    imported, seen = _imported(module), set()
    for name, value in vars(module).items():
        own = value.__module__ == module.__name__ if isinstance(value, type) else name not in imported
        if own and not name.startswith("_") and id(value) not in seen and fits(value):
            seen.add(id(value))
            yield name


def _imported(module: ModuleType) -> set[str]:
    tree = ast.parse(Path(str(module.__file__)).read_bytes())
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return {alias.asname or alias.name for node in imports for alias in node.names}


def _is_program(value: Any) -> bool:
    from torch import nn

    is_one = issubclass(value, nn.Module) if isinstance(value, type) else isinstance(value, nn.Module)
    return is_one and all(
        callable(getattr(value, role, None)) or _is_assigned_in_init(value, role) for role in ("model", "guide")
    )


def _is_assigned_in_init(kind: Any, role: str) -> bool:
    """Whether a class assigns its model or guide in its constructor, as self.guide = AutoNormal(self.model)."""
    inits = [vars(each).get("__init__") for each in kind.__mro__] if isinstance(kind, type) else []
    return any(role in init.__code__.co_names for init in inits if isinstance(init, FunctionType))


def _is_objective(value: Any) -> bool:
    from pyro.infer import ELBO

    return issubclass(value, ELBO) if isinstance(value, type) else isinstance(value, ELBO)
