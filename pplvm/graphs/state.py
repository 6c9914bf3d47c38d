"""What a run of a loss leaves behind beside its value: the random state, its buffers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["cuda_devices", "undone", "written_through"]


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
