"""Many processes that act as one: each rank takes its share of the data, and the gradient is the mean over ranks.

    gradient of B data = 1/R sum_r gradient of the B/R data of rank r

The ranks are those of `torchrun`. Where it started none, every function here does what one process does by itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

__all__ = [
    "any_rank",
    "from_first",
    "gathered",
    "is_first",
    "join",
    "mean",
    "my_rows",
    "my_share",
    "parallel",
    "rank",
    "require_equal",
    "seed_of_rank",
    "shared_mean",
    "size",
    "total",
    "wait",
]

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

_together: ContextVar[bool] = ContextVar("together", default=False)
"""Whether all ranks are at this moment in the forward pass of one step."""


@contextmanager
def join(device: str = "cpu", timeout_seconds: float = 600.0) -> Iterator[torch.device]:
    """Be one of the ranks that torchrun started, over gloo or, on GPUs, nccl; without torchrun nothing is started.

    Arguments:
        device: "cpu", or "cuda", of which each rank of a machine gets one.
        timeout_seconds: how long a rank waits for the others before it gives up.

    Yields:
        the device of this rank.

    Raises:
        RuntimeError: torchrun's variables are there in part; a rank finds no GPU for itself; ranks would share one.
    """
    if distributed.is_initialized() or not (there := [name for name in TORCHRUN[:3] if name in os.environ]):
        yield torch.device(device)
        return
    if missing := [name for name in TORCHRUN if name not in os.environ]:
        raise RuntimeError(f"{' and '.join(there)} say that torchrun started this, but {missing[0]} is not set")
    place = _own_device(device)
    on_gpu = {"backend": "nccl", "device_id": place} if place.type == "cuda" else {"backend": "gloo"}
    distributed.init_process_group(timeout=timedelta(seconds=timeout_seconds), **on_gpu)
    try:
        yield place
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def total(tensor: Tensor) -> Tensor:
    """The sum over ranks, on each of them; without gradient."""
    if size() == 1:
        return tensor.detach()
    there = tensor.detach().to(_meeting_place(), copy=True)
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


def seed_of_rank(seed: int) -> int:
    """A seed for this rank's noise: the seed itself for one process, else mixed with the rank.

    References:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014 (splitmix64)
    """
    return seed if size() == 1 else _mixed(_mixed(seed) + rank())


def my_rows(n: int) -> slice:
    """This rank's rows of n that are shared out like cards: none twice, uneven where n does not divide.

    Example:
        >>> list(range(5))[my_rows(5)]
        [0, 1, 2, 3, 4]
    """
    return slice(rank(), n, size())


def gathered(mine: Tensor, n: int) -> Tensor:
    """All n rows in their order, on each rank, from those that `my_rows(n)` gave it.

    Arguments:
        mine: (n_r, ...), this rank's; of the same kind on all ranks, also where it has no rows.
        n: how many there are on all ranks.

    Raises:
        ValueError: a rank has another number of rows.
    """
    if len(mine) != len(range(n)[my_rows(n)]):
        raise ValueError(f"gathered: rank {rank()} has {len(mine)} rows of {n}, not those of my_rows({n})")
    if size() == 1:
        return mine
    padded = mine.new_zeros(-(-n // size()), *mine.shape[1:], device=_meeting_place())
    padded[: len(mine)] = mine.detach()
    parts = [torch.empty_like(padded) for _ in range(size())]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, 1).flatten(0, 1)[:n].to(mine.device)


def my_share(x: Tensor) -> Tensor:
    """This rank's part (B/R, ...) of a batch (B, ...) that all ranks hold.

    Raises:
        ValueError: the batch does not divide.
    """
    if len(x) % size():
        raise ValueError(
            f"batch size {len(x)} is not divisible by {size()} ranks: choose a multiple, and drop a last, smaller batch"
        )
    return x.chunk(size())[rank()]


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


def require_equal(module: nn.Module, when: str = "now") -> None:
    """Refuse ranks that have drifted apart: a broadcast of all that the module holds, so not for every step.

    Raises:
        RuntimeError: on every rank, if a parameter or a buffer differs on any.
    """
    if size() == 1:
        return
    held = _state(module)
    of_first = {name: tensor.detach().to(_meeting_place(), copy=True) for name, tensor in held.items()}
    for tensor in of_first.values():
        distributed.broadcast(tensor, src=0)
    differ = [not _same(held[name], tensor) for name, tensor in of_first.items()]
    if names := [name for name, ranks in zip(held, total(torch.tensor(differ).int()), strict=True) if ranks]:
        raise RuntimeError(
            f"{when}, {names[0]!r} differs between the ranks ({len(names)} of {len(held)} tensors do): call the loss "
            "that parallel() gave, and let modules that read the batch average over pplvm.distributed.shared_mean"
        )


def parallel(loss: nn.Module, x: Tensor, find_unused: bool | None = None) -> nn.Module:
    """A loss whose gradient is the mean over ranks; alone, the loss itself.

    It is tried on the first rank's batch with the random state set aside and all that it counts put back, so that
    parameters that are made on first use exist, and what is found on a first batch is the same on all ranks. Then all
    ranks take the first one's parameters and buffers. Floating-point buffers that a training step moves are averaged
    over ranks after it, which is exact for moving averages of batch means.

    Arguments:
        loss: maps a batch to a scalar, the mean over its data; in train mode.
        x: this rank's share of a batch (B/R, ...).
        find_unused: whether some steps leave some parameters unused; None asks the trial.

    Raises:
        RuntimeError: the loss has no gradient; later, in train mode with gradients enabled, if it is called other than
            through the module returned here, since its gradient would stay on its rank, or if a module makes
            parameters differ between ranks.
    """
    if size() == 1:
        return loss
    unused, moving = _trial(loss, x)
    find_unused = any_rank(unused) if find_unused is None else find_unused
    wrapped = _Parallel(loss, from_first(moving), find_unused)
    require_equal(loss, "after the broadcast")
    return wrapped


class _Parallel(DistributedDataParallel):
    def __init__(self, loss: nn.Module, moving: list[str], find_unused: bool) -> None:
        super().__init__(loss, find_unused_parameters=find_unused)
        self.broadcast_buffers = False  # at every step; the argument would leave them apart at the start too
        self._moving, self._checked = moving, False
        loss.register_forward_pre_hook(_refuse_alone)

    def forward(self, *args: Any) -> Tensor:
        together = self.training and torch.is_grad_enabled()
        token = _together.set(together)
        try:
            loss: Any = super().forward(*args)
        finally:
            _together.reset(token)
        if together:
            self._average_buffers()
            if not self._checked:
                require_equal(self.module, "after the first step's forward pass")
                self._checked = True
        return loss

    @torch.no_grad()
    def _average_buffers(self) -> None:
        held = dict(self.module.named_buffers())
        for dtype in {held[name].dtype for name in self._moving}:
            alike = [held[name] for name in self._moving if held[name].dtype == dtype]
            flat = mean(torch.cat([buffer.flatten() for buffer in alike]))
            for buffer, part in zip(alike, flat.split([buffer.numel() for buffer in alike]), strict=True):
                buffer.data.copy_(part.view_as(buffer))  # batch norm keeps it for backward, but does not read it there


def _refuse_alone(loss: nn.Module, args: tuple) -> None:
    if loss.training and torch.is_grad_enabled() and size() > 1 and not _together.get():
        raise RuntimeError(
            f"this loss is trained by {size()} ranks, which would drift apart: call the module that parallel() gave"
        )


def _trial(loss: nn.Module, x: Tensor) -> tuple[bool, list[str]]:
    """Whether a step leaves parameters unused, and the floating-point buffers that it moves."""
    x = x.detach().clone()
    distributed.broadcast(x, src=0)
    before = {name: tensor.detach().clone() for name, tensor in _state(loss).items()}
    with torch.random.fork_rng([x.device] if x.is_cuda else []), torch.enable_grad():
        value = loss(x)
        if not value.requires_grad:
            raise RuntimeError("parallel: the loss has no gradient: nothing in it is to be trained")
        used = torch.autograd.grad(value, [p for p in loss.parameters() if p.requires_grad], allow_unused=True)
    after = {name: tensor for name, tensor in _state(loss).items() if name in before}
    moved = [name for name, tensor in after.items() if not _same(before[name], tensor)]
    with torch.no_grad():
        for name in moved:
            after[name].copy_(before[name])
    buffers = dict(loss.named_buffers())
    return any(g is None for g in used), [n for n in moved if n in buffers and buffers[n].is_floating_point()]


def _state(module: nn.Module) -> dict[str, Tensor]:
    """What a module holds, but for parameters that are not made yet."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor for name, tensor in tensors.items() if not is_lazy(tensor)}


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.to(a.device).nan_to_num()) and torch.equal(a.isnan(), b.to(a.device).isnan())


def _meeting_place() -> torch.device:
    """Where tensors must be for the ranks to exchange them."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _own_device(device: str) -> torch.device:
    place, local = torch.device(device), int(os.environ["LOCAL_RANK"])
    if place.type != "cuda":
        return place
    if place.index is not None and int(os.environ["WORLD_SIZE"]) > 1:
        raise RuntimeError(f"{device} would be the GPU of every rank: say cuda, and each rank takes its own")
    if local >= torch.cuda.device_count():
        raise RuntimeError(
            f"rank {local} of this machine finds {torch.cuda.device_count()} GPUs: start as many ranks, or use the cpu"
        )
    torch.cuda.set_device(local if place.index is None else place.index)
    return torch.device("cuda", torch.cuda.current_device())


def _mixed(number: int) -> int:
    """The finalizer of splitmix64."""
    number = (number + 0x9E3779B97F4A7C15) % 2**64
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
    return number ^ (number >> 31)
