"""What a run of a loss reads beside its arguments, and leaves behind beside its value: parameters, buffers, noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.particles.side_effects import buffer_slots

__all__ = ["Held", "buffers_of", "written_through"]


class Held:
    """The parameters and buffers of a module, each once, read anew at every call: they may be replaced in between.

    `bonds` tells whether what was one tensor under several names still is, and what was missing still is.
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

    def bonds(self) -> list[bool]:
        return [store[key] is other[name] for store, key, other, name in self._twins]


@contextmanager
def written_through(loss: nn.Module) -> Iterator[None]:
    """What a program assigns to a buffer becomes a write into it, which a graph can hold.

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
    """Copies of all buffers, one for each name, what is no number made comparable."""
    return [buffer.detach().clone().nan_to_num_(0.0, 0.0, 0.0) for *_, buffer in buffer_slots(loss)]
