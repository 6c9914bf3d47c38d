"""Variables that a user's code reads from outside: globals, closures, class attributes, module settings."""

import dis
import sys
import types
from collections.abc import Iterator
from typing import Any

__all__ = ["PartialContainer", "class_variables", "function_variables"]

Place = tuple[Any, Any, str]
"""A container, a key into it, and a name to tell of."""

DEPENDENCIES = (
    "torch torchvision pyro numpy scipy pandas xarray arviz h5netcdf h5py sklearn matplotlib PIL jinja2 yaml tqdm "
    "safetensors pplvm builtins _pytest"
)

LIBRARIES = (sys.stdlib_module_names | set(DEPENDENCIES.split())) - {"__main__"}
"""Whose code is taken to read nothing that changes."""


class PartialContainer:
    """A container of which only some entries are read, so that its size does not matter."""

    def __init__(self, entries: Any) -> None:
        self.entries = entries

    def __getitem__(self, key: Any) -> Any:
        return self.entries[key]


class _Cells(PartialContainer):
    """The free variables of a closure."""

    def __getitem__(self, key: Any) -> Any:
        return self.entries[key].cell_contents


def class_variables(kind: type, seen: set[int]) -> Iterator[Place]:
    """Attributes of a class and its parents, and the variables that their methods read."""
    for each in kind.__mro__:
        if id(each) in seen or _is_library(each):
            continue
        seen.add(id(each))
        own = vars(each)
        for key, value in list(own.items()):
            if isinstance(value, property):
                for accessor in filter(None, (value.fget, value.fset)):
                    yield from function_variables(accessor, seen)
            elif isinstance(value, staticmethod | classmethod | types.FunctionType):
                yield PartialContainer(own), key, f"{each.__name__}.{key}"
                yield from function_variables(getattr(value, "__func__", value), seen)
            elif not (key.startswith("__") or key.startswith("_abc_")):
                yield PartialContainer(own), key, f"{each.__name__}.{key}"


def function_variables(function: Any, seen: set[int]) -> Iterator[Place]:
    """Globals and free variables that a function or method reads."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType) or id(function) in seen or _is_library(function):
        return
    seen.add(id(function))
    cells = _Cells(function.__closure__ or ())
    for number, name in enumerate(function.__code__.co_freevars):
        if cells.entries[number] != types.CellType():  # one that is empty still
            yield cells, number, name
    variables = function.__globals__
    for name, attributes in _globals_of(function.__code__):
        if isinstance(module := variables.get(name), types.ModuleType):
            if not _is_library(module):
                yield from (
                    (PartialContainer(vars(module)), key, f"{name}.{key}") for key in attributes if key in vars(module)
                )
        elif name in variables:
            yield PartialContainer(variables), name, name


def _globals_of(code: types.CodeType) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names of the globals that code reads, each with all attribute names that it reads."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    yield from ((name, code.co_names) for name in sorted(names))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _is_library(thing: Any) -> bool:
    name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    return (name or "").partition(".")[0] in LIBRARIES
