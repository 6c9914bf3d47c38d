"""Collective operations over ranks: sums, means, gathers and broadcasts of tensors; identities for one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed

from pplvm.distributed.ranks import my_rows, rank, size

__all__ = [
    "all_gather_rows",
    "all_gather_shares",
    "all_reduce_mean",
    "all_reduce_sum",
    "any_rank",
    "backend_device",
    "barrier",
    "broadcast_object",
    "is_synchronized_forward",
    "on_backend_device",
    "shared_mean",
    "synchronized_forward",
]


_together: ContextVar[bool] = ContextVar("together", default=False)
"""Whether all ranks are in the forward pass of the same step."""


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over ranks, on each of them; without gradient."""
    if size() == 1:
        return tensor.detach()
    there = on_backend_device(tensor)
    distributed.all_reduce(there)
    return there.to(tensor.device)


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over ranks, on each of them; without gradient."""
    return all_reduce_sum(tensor) / size()


def shared_mean(tensor: Tensor) -> Tensor:
    """The mean over ranks of a batch statistic that each rank computed on its share of the batch.

    Ranks meet here only in a step that all of them take, in the forward pass of `parallel`; elsewhere, where each has
    data of its own (evaluation), it is the tensor itself.
    """
    return all_reduce_mean(tensor) if _together.get() else tensor.detach()


def any_rank(flag: bool) -> bool:
    """Whether a flag is true on any rank, so that all ranks decide alike.

    Example:
        >>> any_rank(True)
        True
    """
    return flag if size() == 1 else bool(all_reduce_sum(torch.tensor(int(flag))))


def all_gather_rows(mine: Tensor, n: int) -> Tensor:
    """All rows (n, ...) in order, on each rank, from the rows (n_r, ...) that `my_rows(n)` gave it."""
    if len(mine) != len(range(n)[my_rows(n)]):
        raise ValueError(f"all_gather_rows: rank {rank()} has {len(mine)} rows of {n}, not those of my_rows({n})")
    if size() == 1:
        return mine
    padded = mine.new_zeros(-(-n // size()), *mine.shape[1:], device=backend_device())
    padded[: len(mine)] = mine.detach()
    parts = [torch.empty_like(padded) for _ in range(size())]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, 1).flatten(0, 1)[:n].to(mine.device)


def all_gather_shares(mine: Tensor) -> Tensor:
    """All rows (R n, ...) on each rank, rank after rank, from the n rows of each, as `my_share` gave them.

    Raises:
        ValueError: a rank has another number of rows than the first.
    """
    if size() == 1:
        return mine.detach()
    there = on_backend_device(mine)
    counts = torch.zeros(size(), dtype=torch.long, device=there.device)
    counts[rank()] = len(mine)
    distributed.all_reduce(counts)
    if len(set(found := counts.tolist())) > 1:
        raise ValueError(f"all_gather_shares: the ranks have {found} rows: give each the same number")
    parts = [torch.empty_like(there) for _ in range(size())]
    distributed.all_gather(parts, there)
    return torch.cat(parts).to(mine.device)


def broadcast_object(value: Any) -> Any:
    """Broadcast a small picklable object, such as the name of a directory, from the first rank."""
    if size() == 1:
        return value
    sent = [(value.cpu(), value.device.type) if isinstance(value, Tensor) else (value, None)]
    distributed.broadcast_object_list(sent, src=0)
    found, kind = sent[0]
    return found if kind is None else found.to(kind)


def barrier() -> None:
    """Wait until all ranks are here."""
    if size() > 1:
        distributed.barrier()


@contextmanager
def synchronized_forward() -> Iterator[None]:
    """Mark a context in which all ranks run the forward pass of the same step."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


def is_synchronized_forward() -> bool:
    """Whether all ranks are at this moment in the forward pass of one step."""
    return _together.get()


def on_backend_device(tensor: Tensor) -> Tensor:
    """A copy of a tensor on the device that the backend can reach."""
    return tensor.detach().to(backend_device(), copy=True, memory_format=torch.contiguous_format)


def backend_device() -> torch.device:
    """The device on which the backend exchanges tensors."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
