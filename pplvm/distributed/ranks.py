"""Ranks: the processes started by torchrun, and each one's share of the data.

Where torchrun started none, every function here does what one process does by itself.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed.nn.functional  # imported later, its defaults keep gloo's threads for ever
from torch import Tensor, distributed

from pplvm.batch import Batch, as_tuple, without_conditions

__all__ = ["is_first", "join", "my_rows", "my_share", "rank", "seed_of_rank", "size"]


@contextmanager
def join(device: str = "cpu", timeout_seconds: float = 600.0) -> Iterator[torch.device]:
    """Join the process group of torchrun and yield this rank's device; without torchrun there is no group.

    Arguments:
        device: "cpu" (over gloo), or "cuda" (over nccl), of which each rank of a machine gets one.
        timeout_seconds: how long a rank waits for the others before it gives up.

    Raises:
        RuntimeError: torchrun's variables are there in part; a rank finds no GPU for itself.
    """
    if distributed.is_initialized() or "LOCAL_RANK" not in os.environ:
        yield torch.device(device)
        return
    if missing := [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise RuntimeError(f"LOCAL_RANK says that torchrun started this, but {missing[0]} is not set: unset it")
    place = _own_device(device)
    on_gpu = {"backend": "nccl", "device_id": place} if place.type == "cuda" else {"backend": "gloo"}
    distributed.init_process_group(timeout=timedelta(seconds=timeout_seconds), **on_gpu)
    try:
        yield place
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes files and prints: rank 0."""
    return rank() == 0


def seed_of_rank(seed: int) -> int:
    """A seed for this rank's noise: the seed itself for one process, else a hash of it and the rank."""
    digest = hashlib.blake2b(f"{seed} {rank()}".encode(), digest_size=7).digest()
    return seed if size() == 1 else int.from_bytes(digest, "little")


def my_rows(n: int) -> slice:
    """This rank's slice of n rows, dealt round-robin: disjoint, and uneven where n is not divisible."""
    return slice(rank(), n, size())


def my_share(batch: Batch) -> Tensor | tuple[Tensor, ...]:
    """This rank's part (B/R, ...) of a batch (B, ...) that all ranks hold, with its conditions.

    Raises:
        ValueError: it does not divide.
    """
    parts = as_tuple(batch)
    if (B := len(parts[0])) % size():
        raise ValueError(
            f"batch size {B} is not divisible by {size()} ranks: choose a multiple, and drop a last, smaller batch"
        )
    return without_conditions([part.chunk(size())[rank()] for part in parts])


def _own_device(device: str) -> torch.device:
    place, local, there = torch.device(device), int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place.type != "cuda":
        return place
    if place.index is not None or local >= there:
        raise RuntimeError(f"{device} gives local rank {local} no GPU of its own: say cuda, with at most {there} ranks")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
