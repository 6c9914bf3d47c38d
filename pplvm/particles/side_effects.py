"""Undo what a run of a program leaves behind: random states, buffers of its modules, changes of its arguments."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["buffer_slots", "buffers_kept", "cuda_devices", "moving_once", "undone"]


@contextmanager
def undone(modules: nn.Module | Sequence[nn.Module], args: Sequence[Any]) -> Iterator[None]:
    """Whatever happens within leaves random states, the modules' buffers and the arguments as they were.

    Arguments:
        modules: that own the buffers, and perhaps generators of their own.
        args: what is called within; on the devices of its tensors there are random states.
    """
    modules = [modules] if isinstance(modules, nn.Module) else modules
    tensors = [x for x in args if isinstance(x, Tensor)]
    given = [(x, x.detach().clone()) for x in tensors]
    own = [g for each in _all(modules) for g in vars(each).values() if isinstance(g, torch.Generator)]
    generators = [(generator, generator.get_state()) for generator in own]
    try:
        with buffers_kept(*modules), torch.random.fork_rng(cuda_devices(tensors)):
            yield
    finally:
        with torch.no_grad():
            for x, value in given:
                if not ((x == value) | (x != x)).all():  # a copy for nothing could hit memory that is read-only
                    x.copy_(value)
        for generator, state in generators:
            generator.set_state(state)


@contextmanager
def buffers_kept(*modules: nn.Module) -> Iterator[None]:
    """Whatever happens within leaves the modules' buffers as they were.

    Copies stand in for the buffers meanwhile: what autograd has saved of a buffer stays what it was.
    """
    slots = [slot for slot in buffer_slots(*modules) if not is_lazy(slot[-1])]
    copies = _copies([buffer for *_, buffer in slots])
    for store, name, buffer in slots:
        store[name] = copies[id(buffer)]
    try:
        yield
    finally:
        for store, name, buffer in slots:
            store[name] = buffer


def moving_once(program: Callable[..., Any], modules: Sequence[nn.Module]) -> Callable[..., Any]:
    """A program of whose runs only the first moves the modules' buffers, for objectives that run it again and again."""
    runs = count()

    def run(*args: Any, **kwargs: Any) -> Any:
        with buffers_kept(*modules) if next(runs) else nullcontext():
            return program(*args, **kwargs)

    return run


def buffer_slots(*modules: nn.Module) -> list[tuple[dict[str, Tensor | None], str, Tensor]]:
    """Where each buffer is kept: the dictionary, the key, and the buffer itself."""
    return [(each._buffers, name, b) for each in _all(modules) for name, b in each._buffers.items() if b is not None]


def cuda_devices(args: Sequence[Any]) -> list[int]:
    """Whose random states a run on these arguments moves, beside the CPU's."""
    return sorted({x.get_device() for x in args if isinstance(x, Tensor) and x.is_cuda})


def _copies(buffers: list[Tensor]) -> dict[int, Tensor]:
    """A copy of each tensor, by its id; what shares memory still does."""
    by_memory: dict[int, dict[int, Tensor]] = {}
    for buffer in buffers:
        by_memory.setdefault(buffer.untyped_storage()._cdata, {})[id(buffer)] = buffer.detach()
    copies: dict[int, Tensor] = {}
    for sharing in by_memory.values():
        first = next(iter(sharing.values()))
        if len(sharing) == 1 or any(each.dtype != first.dtype for each in sharing.values()):
            copies |= {key: each.clone() for key, each in sharing.items()}
            continue
        size = first.untyped_storage().nbytes() // first.element_size()
        whole = first.as_strided((size,), (1,), 0).clone()
        for key, each in sharing.items():
            copies[key] = whole.as_strided(each.shape, each.stride(), each.storage_offset())
    return copies


def _all(modules: Sequence[nn.Module]) -> Iterator[nn.Module]:
    seen: set[nn.Module] = set()
    for module in modules:
        yield from (each for _, each in module.named_modules(seen))
