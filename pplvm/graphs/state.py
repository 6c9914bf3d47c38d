"""What a run of a loss reads beside its arguments, and leaves behind beside its value: parameters, buffers, noise."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Held", "buffers_kept", "buffers_of", "cuda_devices", "undone", "written_through"]


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
def undone(loss: nn.Module, args: Sequence[Tensor]) -> Iterator[None]:
    """Whatever happens within leaves the random state, the loss's buffers and its arguments as they were.

    Arguments:
        args: what the loss is called with, on whose devices it draws.
    """
    given = [(x, x.detach().clone()) for x in args]
    own = [g for each in loss.modules() for g in vars(each).values() if isinstance(g, torch.Generator)]
    generators = [(generator, generator.get_state()) for generator in own]
    try:
        with buffers_kept(loss), torch.random.fork_rng(cuda_devices(args)):
            yield
    finally:
        with torch.no_grad():
            for x, value in given:
                if not torch.equal(x, value):  # a copy for nothing could hit memory that is read-only
                    x.copy_(value)
        for generator, state in generators:
            generator.set_state(state)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Whatever happens within leaves the module's buffers as they were."""
    slots = [(*slot, slot[-1].clone()) for slot in _slots(module)]
    try:
        yield
    finally:
        with torch.no_grad():
            for store, name, buffer, value in slots:
                store[name] = buffer.copy_(value)


@contextmanager
def written_through(loss: nn.Module) -> Iterator[None]:
    """What a program assigns to a buffer becomes a write into it, which a graph can hold.

    Raises:
        TypeError: a buffer would become one of another shape or type, or leave another that shows its memory.
    """
    slots = _slots(loss)
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
    return [buffer.detach().clone().nan_to_num_(0.0, 0.0, 0.0) for *_, buffer in _slots(loss)]


def cuda_devices(tensors: Sequence[Tensor]) -> list[int]:
    """Whose random states a run on these tensors moves, beside the CPU's."""
    return sorted({x.get_device() for x in tensors if x.is_cuda})


def _slots(loss: nn.Module) -> list[tuple[dict[str, Tensor | None], str, Tensor]]:
    return [(each._buffers, name, b) for each in loss.modules() for name, b in each._buffers.items() if b is not None]
