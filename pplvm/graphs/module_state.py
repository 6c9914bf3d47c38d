"""Parameters and buffers of a module as inputs of a graph, and in-place writes to buffers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.particles.side_effects import buffer_slots

__all__ = ["ModuleState", "buffers_of", "in_place_buffers"]


class ModuleState:
    """The parameters and buffers of a module, each once, read anew at every call since they may be replaced.

    `aliases` tells whether what was one tensor under several names still is, and what was missing still is.
    """

    def __init__(self, module: nn.Module) -> None:
        missing: tuple[dict[str, Any], str] = {"": None}, ""
        found, self._twins = {id(None): missing}, []
        for name in ("_parameters", "_buffers"):
            for store in (getattr(each, name) for each in module.modules()):
                for key, tensor in store.items():
                    first = found.setdefault(id(tensor), (store, key))
                    if first[0] is not store or first[1] != key:
                        self._twins.append((store, key, *first))
        self._places = [place for place in found.values() if place is not missing]

    def __call__(self) -> list[Tensor]:
        return [store[key] for store, key in self._places]

    def aliases(self) -> list[bool]:
        return [store[key] is other[name] for store, key, other, name in self._twins]


@contextmanager
def in_place_buffers(loss: nn.Module) -> Iterator[None]:
    """Turn assignments to buffers into in-place writes, which a graph can hold.

    Raises:
        TypeError: a buffer would become one of another shape or type, or leave another that shows its memory.
    """
    slots = buffer_slots(loss)
    yield
    with torch.no_grad():
        kept = {buffer.untyped_storage().data_ptr() for store, name, buffer in slots if store[name] is buffer} - {0}
        values = []
        for store, name, buffer in slots:
            if (value := store[name]) is buffer:
                continue
            if buffer.untyped_storage().data_ptr() in kept:
                raise TypeError(f"buffer {name!r} is assigned a tensor, and another buffer shows the memory it had")
            if value is None or value.shape != buffer.shape or value.dtype != buffer.dtype:
                raise TypeError(f"buffer {name!r} is assigned a tensor of another shape or type than it has")
            values.append((store, name, buffer, value.clone()))  # it may be the memory of another that is assigned
        for store, name, buffer, value in values:
            store[name] = buffer.copy_(value)


def buffers_of(loss: nn.Module) -> list[Tensor]:
    """Copies of all buffers by name, with NaN replaced so that they can be compared."""
    return [buffer.detach().clone().nan_to_num_(0.0, 0.0, 0.0) for *_, buffer in buffer_slots(loss)]
