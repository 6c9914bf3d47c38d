"""What a run of a loss reads beside its arguments, and leaves behind beside its value: parameters, buffers, noise."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Held", "cuda_devices", "undone", "written_through"]


class Held:
    """The parameters and buffers of a module, each once, read anew at every call: they may be replaced in between."""

    def __init__(self, module: nn.Module) -> None:
        found: dict[int, tuple[dict[str, Any], str]] = {}
        for name in ("_parameters", "_buffers"):
            for store in (getattr(each, name) for each in module.modules()):
                found |= {id(tensor): (store, key) for key, tensor in store.items() if tensor is not None}
        self._places = list(found.values())

    def __call__(self) -> list[Tensor]:
        return [store[key] for store, key in self._places]


@contextmanager
def undone(loss: nn.Module, args: Sequence[Tensor]) -> Iterator[None]:
    """Whatever happens within leaves the random state and the loss's buffers as they were.

    Arguments:
        args: what the loss is called with, on whose devices it draws.
    """
    slots = [(*slot, slot[-1].clone()) for slot in _slots(loss)]
    try:
        with torch.random.fork_rng(cuda_devices(args)):
            yield
    finally:
        with torch.no_grad():
            for store, name, buffer, value in slots:
                store[name] = buffer.copy_(value)


@contextmanager
def written_through(loss: nn.Module) -> Iterator[None]:
    """What a program assigns to a buffer becomes a write into it, which a graph can hold."""
    slots = _slots(loss)
    yield
    with torch.no_grad():
        for store, name, buffer in slots:
            if store[name] is not buffer:
                buffer.copy_(store[name])
                store[name] = buffer


def cuda_devices(tensors: Sequence[Tensor]) -> list[int]:
    """Whose random states a run on these tensors moves, beside the CPU's."""
    return sorted({x.get_device() for x in tensors if x.is_cuda})


def _slots(loss: nn.Module) -> list[tuple[dict[str, Tensor | None], str, Tensor]]:
    return [(each._buffers, name, b) for each in loss.modules() for name, b in each._buffers.items() if b is not None]
