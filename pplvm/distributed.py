"""Many processes that act as one: each rank takes its share of the data, and the gradient is the mean over ranks.

    gradient of B data = 1/R sum_r gradient of the B/R data of rank r

The ranks are those of `torchrun`. Where it started none, every function here does what one process does by itself.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
import torch.distributed.nn.functional  # imported later, its defaults keep gloo's threads for ever
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

_together: ContextVar[bool] = ContextVar("together", default=False)
"""Whether all ranks are at this moment in the forward pass of one step."""


@contextmanager
def join(device: str = "cpu", timeout_seconds: float = 600.0) -> Iterator[torch.device]:
    """Be one of the ranks that torchrun started, and yield its device; without torchrun nothing is started.

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
    there = _copied(tensor)
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
    """A seed for this rank's noise: the seed itself for one process, else a digest of it and the rank."""
    digest = hashlib.blake2b(f"{seed} {rank()}".encode(), digest_size=7).digest()
    return seed if size() == 1 else int.from_bytes(digest, "little")


def my_rows(n: int) -> slice:
    """This rank's rows of n that are shared out like cards: none twice, uneven where n does not divide."""
    return slice(rank(), n, size())


def gathered(mine: Tensor, n: int) -> Tensor:
    """All rows (n, ...) in their order, on each rank, from those (n_r, ...) that `my_rows(n)` gave it."""
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
    """This rank's part (B/R, ...) of a batch (B, ...) that all ranks hold; ValueError if it does not divide."""
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


DRIFT = "call the loss that parallel() gave, and let a module that reads the batch average it by shared_mean"


def require_equal(module: nn.Module, when: str = "now", cure: str = DRIFT) -> None:
    """RuntimeError on every rank if a parameter or buffer differs on any; broadcasts all, so not for every step."""
    if size() == 1:
        return
    held = _held(module)
    of_first = [_copied(tensor) for tensor in held.values()]
    for tensor in of_first:
        distributed.broadcast(tensor, src=0)
    differ = [not _same(first, own) for first, own in zip(of_first, held.values(), strict=True)]
    if apart := [name for name, ranks in zip(held, total(torch.tensor(differ).int()), strict=True) if ranks]:
        raise RuntimeError(f"{when}, {apart[0]!r} differs between ranks ({len(apart)} of {len(held)} tensors): {cure}")


def parallel(loss: nn.Module, x: Tensor, find_unused: bool | None = None) -> nn.Module:
    """A loss whose gradient is the mean over ranks; alone, the loss itself.

    The loss is tried once on the first rank's batch, the random state set aside and all that it counts put back: what
    is made on first use exists then, and all start equal. After each step, floating-point buffers that steps move are
    averaged over ranks: exact for averages of batch means, such as a `MovingAverage` or the running mean of batch norm
    (which normalizes by its own share, here as in any DDP).

    Arguments:
        loss: maps a batch to the mean over its data, (); in train mode.
        x: this rank's share of a batch (B/R, ...).
        find_unused: whether there are steps that leave parameters unused; None asks the trial.

    Raises:
        RuntimeError: the loss has no gradient, or is in eval mode; when called, a module makes the ranks differ; at
            any time, the loss is called in train mode but not through what was returned, and so on its rank alone.
    """
    if size() == 1:
        return loss
    if not loss.training:
        raise RuntimeError("parallel: the loss is in eval mode, where nothing shows what its steps move: call train()")
    unused, moving = _trial(loss, x)
    wrapped = _Parallel(loss, from_first(moving), any_rank(unused) if find_unused is None else find_unused)
    require_equal(loss, "after the broadcast")
    return wrapped


class _Parallel(DistributedDataParallel):
    def __init__(self, loss: nn.Module, moving: list[str], find_unused: bool) -> None:
        super().__init__(loss, find_unused_parameters=find_unused)
        self.broadcast_buffers = False  # at every step; the argument would leave them apart at the start too
        self._moving, self._compared = moving, False
        for each in {loss, getattr(loss, "loss", loss)}:  # the loss itself, where it is compiled
            each.register_forward_pre_hook(_refuse_alone)

    def forward(self, *args: Any) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return self.module(*args)
        with _all_together():
            loss: Any = super().forward(*args)
        self._average_buffers()
        if not self._compared:
            require_equal(self.module, "after the first forward pass")
            self._compared = True
        return loss

    def _average_buffers(self) -> None:
        held = dict(self.module.named_buffers())
        for dtype in dict.fromkeys(held[name].dtype for name in self._moving):  # in one order on all ranks
            names = [name for name in self._moving if held[name].dtype == dtype]
            flat = mean(torch.cat([held[name].flatten() for name in names]))
            for name, part in zip(names, flat.split([held[name].numel() for name in names]), strict=True):
                owner, _, leaf = name.rpartition(".")  # a new tensor, as backward may need the old one
                setattr(self.module.get_submodule(owner), leaf, part.view_as(held[name]).clone())


@contextmanager
def _all_together() -> Iterator[None]:
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


def _refuse_alone(loss: nn.Module, args: tuple) -> None:
    if loss.training and torch.is_grad_enabled() and size() > 1 and not _together.get():
        raise RuntimeError(
            f"this loss is trained by {size()} ranks, which would drift apart: call the module that parallel() gave"
        )


def _trial(loss: nn.Module, x: Tensor) -> tuple[bool, list[str]]:
    """Whether a step leaves parameters unused, and the floating-point buffers that it moves."""
    of_first = _copied(x)
    distributed.broadcast(of_first, src=0)
    before = {name: tensor.detach().clone() for name, tensor in _held(loss).items()}
    with torch.random.fork_rng([x.device] if x.is_cuda else []), torch.enable_grad(), _all_together():
        value = loss(of_first.to(x.device))
        if not value.requires_grad:
            raise RuntimeError("parallel: the loss has no gradient: nothing in it is to be trained")
        found = torch.autograd.grad(value, [p for p in loss.parameters() if p.requires_grad], allow_unused=True)
    after = {name: tensor for name, tensor in _held(loss).items() if name in before}
    moved = [name for name, tensor in after.items() if not _same(before[name], tensor)]
    for name in moved:
        after[name].detach().copy_(before[name])
    averages = [name for name, buffer in loss.named_buffers() if name in moved and buffer.is_floating_point()]
    return any(gradient is None for gradient in found), averages


def _held(module: nn.Module) -> dict[str, Tensor]:
    """What a module holds, but for parameters that are not made yet."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor for name, tensor in tensors.items() if not is_lazy(tensor)}


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit by bit, so that what is no number equals itself."""
    first, second = (tensor.detach().reshape(-1).view(torch.uint8) for tensor in (a, b.to(a.device)))
    return torch.equal(first, second)


def _meeting_place() -> torch.device:
    """Where tensors must be for the ranks to exchange them."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to(_meeting_place(), copy=True, memory_format=torch.contiguous_format)


def _own_device(device: str) -> torch.device:
    place, local, there = torch.device(device), int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place.type != "cuda":
        return place
    if place.index is not None or local >= there:
        raise RuntimeError(f"{device} gives local rank {local} no GPU of its own: say cuda, with at most {there} ranks")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
