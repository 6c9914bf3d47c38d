"""Python attributes that a graph of a loss depends on: numbers, flags, structure."""

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.particles.free_variables import PartialContainer, class_variables, function_variables

__all__ = ["PythonState", "UnwatchedCache"]

PRIMITIVES = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)

VALUES = frozenset(PRIMITIVES)

MACHINERY = frozenset(vars(nn.Module())) - {"training"}
"""What every module has and none computes with."""

STORES = ("_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Of which only the number counts: a graph reads tensors anew."""


class UnwatchedCache:
    """A cache of facts about a program, which `PythonState` ignores since no computation depends on it."""


class PythonState:
    """The Python state of a module tree: attributes, plain objects in them, and variables that its code reads.

    Functions count by identity, numbers and words by value, tensors by identity and by how often they were written to.
    Of parameters and buffers only whether they are there counts, for a graph reads them anew.
    """

    def __init__(self, module: nn.Module) -> None:
        places = [place for place in _places(module) if _is_readable(*place[:2])]
        self._slots = [(container, key) for container, key, _ in places]
        stores = [getattr(each, name) for each in module.modules() for name in STORES]
        wholes = {id(container): container for container, _, _ in places if not isinstance(container, PartialContainer)}
        self._containers = [*wholes.values(), *stores]
        self._kept = [container[key] for container, key in self._slots]  # so that no identity is used twice
        tensors = {name: kept for (_, _, name), kept in zip(places, self._kept, strict=True) if _has_version(kept)}
        self._names, self._tensors = [*[name for _, _, name in places], *tensors], list(tensors.values())

    def values(self) -> tuple[Any, ...]:
        """All values of the state, hashable."""
        try:
            found = [container[key] for container, key in self._slots]
        except (KeyError, IndexError, ValueError):
            return (object(),)
        writes = [tensor._version for tensor in self._tensors]
        values = [each if type(each) in VALUES else id(each) for each in found]
        return (*values, *writes, *map(len, self._containers))

    def changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
        """The name of the first value that differs."""
        if len(before) == len(after):
            for name, a, b in zip(self._names, before, after, strict=False):
                if a is not b and a != b:
                    return name
        return "an attribute that comes and goes"


def _places(module: nn.Module) -> Iterator[tuple[Any, Any, str]]:
    seen: set[int] = set()
    for path, each in module.named_modules():
        yield from _of_module(each, path, seen)


def _of_module(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """A module's own attributes; of modules of torch and Pyro, which keep caches, primitive values only."""
    own = vars(module)
    for key in module._modules:
        yield module._modules, key, f"{path}.{key}".lstrip(".")
    for key, value in list(own.items()):
        if key not in MACHINERY and not (_is_known(module) and type(value) not in VALUES):
            yield from _at(own, key, value, f"{path}.{key}".lstrip("."), seen)
    yield from _around(class_variables(type(module), seen), seen)


def _at(container: Any, key: Any, value: Any, name: str, seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """An entry, and everything within its value."""
    yield container, key, name
    if isinstance(value, list | tuple | dict):
        yield from _inside(value, name, seen)
    elif isinstance(value, types.FunctionType | types.MethodType):
        yield from _around(function_variables(value, seen), seen)
    elif isinstance(value, type):
        yield from _around(class_variables(value, seen), seen)
    elif _is_plain(value):
        yield from _inside(vars(value), name, seen)
        yield from _around(class_variables(type(value), seen), seen)


def _inside(thing: Any, path: str, seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """Everything within a list or a dictionary."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    items: Any = thing.items() if isinstance(thing, dict) else enumerate(thing)
    for key, value in list(items):
        yield from _at(thing, key, value, f"{path}.{key}".lstrip("."), seen)


def _around(places: Iterator[tuple[Any, Any, str]], seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """The variables that code reads, and everything within them; other modules are not searched."""
    for container, key, name in places:
        yield from _at(container, key, container[key], name, seen)


def _is_readable(container: Any, key: Any) -> bool:
    """Whether a container gives an entry back, as user-defined containers may not."""
    try:
        container[key]
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return True


def _has_version(thing: Any) -> bool:
    return isinstance(thing, Tensor) and not thing.is_inference()


def _is_plain(value: Any) -> bool:
    """Whether a computation may depend on an object's own attributes."""
    kinds = (
        *PRIMITIVES,
        UnwatchedCache,
        Tensor,
        nn.Module,
        type,
        types.ModuleType,
        types.FunctionType,
        types.MethodType,
    )
    return not isinstance(value, kinds) and not _is_known(value) and hasattr(value, "__dict__")


def _is_known(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] in ("torch", "pyro", "builtins")
