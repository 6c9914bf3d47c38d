"""Collective operations over ranks: sums, means, gathers and broadcasts of tensors; alone, a process has its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed

from pplvm.distributed.ranks import my_rows, rank, size

__all__ = [
    "all_together",
    "any_rank",
    "backend_device",
    "copied",
    "from_first",
    "gathered",
    "is_together",
    "mean",
    "shared_mean",
    "total",
    "wait",
]


_together: ContextVar[bool] = ContextVar("together", default=False)
"""Whether all ranks are at this moment in the forward pass of one step."""


def total(tensor: Tensor) -> Tensor:
    """The sum over ranks, on each of them; without gradient."""
    if size() == 1:
        return tensor.detach()
    there = copied(tensor)
    distributed.all_reduce(there)
    return there.to(tensor.device)


def mean(tensor: Tensor) -> Tensor:
    """The mean over ranks, on each of them; without gradient."""
    return total(tensor) / size()


def shared_mean(tensor: Tensor) -> Tensor:
    """The mean over ranks of what a training step computes on its share of the batch, for statistics of the whole.

    Ranks meet here only in a step that all of them take, in the forward pass of `parallel`; elsewhere, where each has
    data of its own (evaluation), it is the tensor itself.
    """
    return mean(tensor) if _together.get() else tensor.detach()


def any_rank(flag: bool) -> bool:
    """Whether it is so on any rank: a decision that all take alike.

    Example:
        >>> any_rank(True)
        True
    """
    return flag if size() == 1 else bool(total(torch.tensor(int(flag))))


def gathered(mine: Tensor, n: int) -> Tensor:
    """All rows (n, ...) in their order, on each rank, from those (n_r, ...) that `my_rows(n)` gave it."""
    if len(mine) != len(range(n)[my_rows(n)]):
        raise ValueError(f"gathered: rank {rank()} has {len(mine)} rows of {n}, not those of my_rows({n})")
    if size() == 1:
        return mine
    padded = mine.new_zeros(-(-n // size()), *mine.shape[1:], device=backend_device())
    padded[: len(mine)] = mine.detach()
    parts = [torch.empty_like(padded) for _ in range(size())]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, 1).flatten(0, 1)[:n].to(mine.device)


def from_first(value: Any) -> Any:
    """What the first rank has, on each: something small, such as the name of a directory."""
    if size() == 1:
        return value
    sent = [(value.cpu(), value.device.type) if isinstance(value, Tensor) else (value, None)]
    distributed.broadcast_object_list(sent, src=0)
    found, kind = sent[0]
    return found if kind is None else found.to(kind)


def wait() -> None:
    """Until all ranks are here."""
    if size() > 1:
        distributed.barrier()


@contextmanager
def all_together() -> Iterator[None]:
    """All ranks are in the forward pass of one step while this lasts."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


def is_together() -> bool:
    """Whether all ranks are at this moment in the forward pass of one step."""
    return _together.get()


def copied(tensor: Tensor) -> Tensor:
    """A copy where the backend can reach it."""
    return tensor.detach().to(backend_device(), copy=True, memory_format=torch.contiguous_format)


def backend_device() -> torch.device:
    """Where tensors must be for the ranks to exchange them."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
