"""The architecture of a module as a table, and differences between the manifests of two runs."""

__all__ = ["architecture", "manifest_differences"]

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn


def architecture(module: nn.Module, **settings: Any) -> dict[str, Any]:
    """The classes, parameters and buffers of a module as a table, with its sha256.

    Two modules with equal tables compute alike from equal tensors, as far as their classes tell.

    Arguments:
        module: of any depth; what its parts print of themselves (a dropout's p) belongs to the table.
        settings: anything else that JSON holds: the objective, the number of particles.

    Example:
        >>> table = architecture(nn.Sequential(nn.Linear(3, 2, bias=False)), particles=5)
        >>> table["modules"]["0"], table["tensors"], table["settings"]
        ('torch.nn.modules.linear.Linear(in_features=3, out_features=2, bias=False)', \
{'0.weight': ['float32', [2, 3]]}, {'particles': 5})
    """
    named = itertools.chain(module.named_parameters(remove_duplicate=False), module.named_buffers())
    table = {
        "tensors": {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in named},
        "modules": {name: _described(part) for name, part in module.named_modules()},
        "settings": settings,
    }
    text = json.dumps(table, sort_keys=True)
    return {**table, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def manifest_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """The fields in which two manifests differ, each with a sentence on its first difference.

    Arguments:
        there: the manifest of the checkpoint, as read.
        here: that of the program which would resume it.

    Example:
        >>> manifest_differences({"seed": 0, "data": "digits"}, {"seed": 1, "data": "digits"})
        {'seed': 'seed is 0 there, 1 here'}
    """
    found = {}
    for field in dict.fromkeys([*there, *here]):
        first = next(_differing(there.get(field, ABSENT), _listed(here.get(field, ABSENT)), (field,)), None)
        if first is not None:
            found[field] = first
    return found


ABSENT = object()


def _differing(there: Any, here: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from _differing(there.get(key, ABSENT), here.get(key, ABSENT), (*path, key))
    elif there is ABSENT or here is ABSENT:
        yield f"{_titled(path)} is {'not there, but here' if there is ABSENT else 'there, but not here'}"
    elif path[1:2] == ("tensors",) and there[1] != here[1]:
        yield f"{_titled(path)} has shape {tuple(there[1])} there, {tuple(here[1])} here"
    elif path[1:2] == ("tensors",) and there[0] != here[0]:
        yield f"{_titled(path)} is of {there[0]} there, {here[0]} here"
    elif there != here:
        yield f"{_titled(path)} is {there} there, {here} here"


def _titled(path: tuple[str, ...]) -> str:
    """A field's path for messages: architecture.tensors.encoder.weight is encoder.weight."""
    inner = path[2:] if path[1:2] in (("tensors",), ("modules",), ("settings",)) else path
    return ".".join(inner) or "the module"


def _listed(value: Any) -> Any:
    """A value after a round trip through JSON."""
    return value if value is ABSENT else json.loads(json.dumps(value))


def _described(module: nn.Module) -> str:
    """The class of a module with its `extra_repr`, memory addresses left out."""
    said = re.sub(r" at 0x[0-9a-fA-F]+", "", module.extra_repr())
    return f"{type(module).__module__}.{type(module).__qualname__}({said})"
