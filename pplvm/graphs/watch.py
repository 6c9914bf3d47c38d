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

    Tensors and functions count by identity, numbers and words by value; parameters and buffers are watched for being
    replaced, not for their values.
    """

    def __init__(self, module: nn.Module) -> None:
        places = list(_places(module))
        self._names = [name for _, _, name in places]
        self._slots = [(container, key) for container, key, _ in places]
        self._containers = list({id(c): c for c, _, _ in places}.values())
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
        yield from _inside(each, path, seen)


def _inside(thing: Any, path: str, seen: set[int]) -> Iterator[tuple[Any, Any, str]]:
    """Each place within an object, a list or a dictionary, and within what these hold."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        for store in (thing._parameters, thing._buffers):
            yield from ((store, key, f"{path}.{key}".lstrip(".")) for key in store)
    if isinstance(thing, list | tuple):
        items: Any = enumerate(thing)
    elif isinstance(thing, dict):
        items = thing.items()
    else:
        items, thing = vars(thing).items(), vars(thing)
    for key, value in list(items):
        if isinstance(key, str) and key in MACHINERY:
            continue
        name = f"{path}.{key}".lstrip(".")
        yield thing, key, name
        if _has_inside(value):
            yield from _inside(value, name, seen)


def _has_inside(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        return True
    if isinstance(value, (*PRIMITIVES, Tensor, type, types.ModuleType, types.FunctionType, types.MethodType)):
        return False
    return type(value).__module__.partition(".")[0] not in ("torch", "pyro", "builtins") and hasattr(value, "__dict__")
