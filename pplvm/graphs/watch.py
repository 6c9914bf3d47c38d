"""What of a loss is no tensor yet decides what it computes, and is burnt into its graph: numbers, flags, structure."""

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Watch"]

PRIMITIVES = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)

VALUES = frozenset(PRIMITIVES)

MACHINERY = frozenset(vars(nn.Module())) - {"training"}
"""What every module has and none computes with."""


class Watch:
    """The Python state of a module tree and of the plain objects that hang on it, to be read often and fast.

    Tensors and functions count by identity, numbers and words by value. Of parameters and buffers only whether they are
    there counts, for a graph reads them anew.
    """

    def __init__(self, module: nn.Module) -> None:
        places = list(_places(module))
        self._names = [name for _, _, name in places]
        self._slots = [(container, key) for container, key, _ in places]
        held = [store for each in module.modules() for store in (each._parameters, each._buffers)]
        self._containers = [*{id(container): container for container, _, _ in places}.values(), *held]
        self._kept = [container[key] for container, key in self._slots]  # so that no identity is used twice

    def values(self) -> tuple[Any, ...]:
        """All that is watched, hashable."""
        try:
            found = [container[key] for container, key in self._slots]
        except (KeyError, IndexError):
            return (object(),)
        sizes = [len(container) for container in self._containers]
        return (*[each if type(each) in VALUES else id(each) for each in found], *sizes)

    def changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
        """The name of the first thing that differs."""
        if len(before) == len(after):
            for name, a, b in zip(self._names, before, after, strict=False):
                if a is not b and a != b:
                    return name
        return "an attribute that comes and goes"


def _places(module: nn.Module) -> Iterator[tuple[Any, Any, str]]:
    seen: set[int] = set()
    for path, each in module.named_modules():
        yield from _of_module(each, path, seen)


def _inside(thing: Any, path: str, seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """Each place within an object, a list or a dictionary, and within what these hold."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    items: Any = thing.items() if isinstance(thing, dict) else enumerate(thing)
    for key, value in list(items):
        name = f"{path}.{key}".lstrip(".")
        yield thing, key, name
        if isinstance(value, list | tuple | dict):
            yield from _inside(value, name, seen)
        elif _is_plain(value):
            yield from _inside(vars(value), name, seen)


def _of_module(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """What a module keeps beside what all modules have; of torch's and Pyro's own, which keep caches, values alone."""
    own = vars(module)
    for key, value in list(own.items()):
        if key in MACHINERY or (_is_known(module) and type(value) not in VALUES):
            continue
        name = f"{path}.{key}".lstrip(".")
        yield own, key, name
        if isinstance(value, list | tuple | dict):
            yield from _inside(value, name, seen)
        elif _is_plain(value):
            yield from _inside(vars(value), name, seen)


def _is_plain(value: Any) -> bool:
    """Whether an object's own attributes may decide what is computed."""
    kinds = (*PRIMITIVES, Tensor, nn.Module, type, types.ModuleType, types.FunctionType, types.MethodType)
    return not isinstance(value, kinds) and not _is_known(value) and hasattr(value, "__dict__")


def _is_known(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] in ("torch", "pyro", "builtins")
