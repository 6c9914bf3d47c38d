"""Undoes side effects of a run: random states, module buffers, changed arguments."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["buffer_slots", "buffers_restored", "cuda_devices", "updating_buffers_once", "without_side_effects"]


@contextmanager
def without_side_effects(modules: nn.Module | Sequence[nn.Module], args: Sequence[Any]) -> Iterator[None]:
    """Within this context, random states, the modules' buffers and the arguments are restored at the end.

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
        with buffers_restored(*modules), torch.random.fork_rng(cuda_devices(tensors)):
            yield
    finally:
        with torch.no_grad():
            for x, value in given:
                if not ((x == value) | (x != x)).all():  # a copy for nothing could hit memory that is read-only
                    x.copy_(value)
        for generator, state in generators:
            generator.set_state(state)


@contextmanager
def buffers_restored(*modules: nn.Module) -> Iterator[None]:
    """Within this context, the modules' buffers are restored at the end.

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


def updating_buffers_once(program: Callable[..., Any], modules: Sequence[nn.Module]) -> Callable[..., Any]:
    """A program that updates buffers in its first run only, for objectives that run it several times."""
    runs = count()

    def run(*args: Any, **kwargs: Any) -> Any:
        with buffers_restored(*modules) if next(runs) else nullcontext():
            return program(*args, **kwargs)

    return run


def buffer_slots(*modules: nn.Module) -> list[tuple[dict[str, Tensor | None], str, Tensor]]:
    """Where each buffer is stored: the dictionary, the key, and the buffer."""
    return [(each._buffers, name, b) for each in _all(modules) for name, b in each._buffers.items() if b is not None]


def cuda_devices(args: Sequence[Any]) -> list[int]:
    """The CUDA devices of these arguments, whose random states a run changes."""
    return sorted({x.get_device() for x in args if isinstance(x, Tensor) and x.is_cuda})


def _copies(buffers: list[Tensor]) -> dict[int, Tensor]:
    """A copy of each tensor, by its id; shared memory stays shared."""
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
