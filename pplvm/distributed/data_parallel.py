"""Data parallelism: each rank takes a share of the batch, and gradients are averaged over ranks.

gradient of B data = 1/R sum_r gradient of the B/R data of rank r
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from pplvm.batch import Batch, as_tuple
from pplvm.distributed.collectives import (
    all_reduce_mean,
    all_reduce_sum,
    any_rank,
    broadcast_object,
    is_synchronized_forward,
    on_backend_device,
    synchronized_forward,
)
from pplvm.distributed.ranks import size

__all__ = ["parallel", "require_equal"]


DRIFT = "call the loss that parallel() gave, and let a module that reads the batch average it by shared_mean"


def require_equal(module: nn.Module, when: str = "now", cure: str = DRIFT) -> None:
    """Raise RuntimeError on every rank if a parameter or buffer differs between ranks; broadcasts all of them."""
    if size() == 1:
        return
    own = _rank_buffers(module)
    held = {name: tensor for name, tensor in _held(module).items() if name not in own}
    of_first = [on_backend_device(tensor) for tensor in held.values()]
    for tensor in of_first:
        distributed.broadcast(tensor, src=0)
    differ = [not _same(first, own) for first, own in zip(of_first, held.values(), strict=True)]
    if apart := [name for name, ranks in zip(held, all_reduce_sum(torch.tensor(differ).int()), strict=True) if ranks]:
        raise RuntimeError(f"{when}, {apart[0]!r} differs between ranks ({len(apart)} of {len(held)} tensors): {cure}")


def parallel(loss: nn.Module, batch: Batch, find_unused: bool | None = None) -> nn.Module:
    """A loss whose gradient is averaged over ranks; for one process, the loss itself.

    The loss is tried once on the first rank's batch, the random state set aside and all that it counts put back: what
    is made on first use exists then, and all start equal. After each step, floating-point buffers that steps move are
    averaged over ranks: exact for averages of batch means, such as a `MovingAverage` or the running mean of batch norm
    (which normalizes by its own share, here as in any DDP). Buffers that a module names in an attribute `rank_buffers`
    are each rank's own: neither averaged nor compared.

    Arguments:
        loss: maps a batch to the mean over its data, (); in train mode.
        batch: this rank's share of one, (B/R, ...), with its conditions where there are some.
        find_unused: whether there are steps that leave parameters unused; None asks the trial.

    Raises:
        RuntimeError: the loss has no gradient, or is in eval mode; when called, a module makes the ranks differ; at
            any time, the loss is called in train mode but not through what was returned, and so on its rank alone.
    """
    if size() == 1:
        return loss
    if not loss.training:
        raise RuntimeError("parallel: the loss is in eval mode, where nothing shows what its steps move: call train()")
    unused, moving = _trial(loss, as_tuple(batch))
    wrapped = _Parallel(loss, broadcast_object(moving), any_rank(unused) if find_unused is None else find_unused)
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
        with synchronized_forward():
            loss: Any = super().forward(*args)
        self._average_buffers()
        if not self._compared:
            require_equal(self.module, "after the first forward pass")
            self._compared = True
        return loss

    def backward(self, *batch: Tensor) -> Tensor:
        """The loss of this rank's share, (), detached; the mean gradient over ranks is added to `.grad`."""
        value = self(*batch)
        value.backward()
        return value.detach()

    def _average_buffers(self) -> None:
        held = dict(self.module.named_buffers())
        for dtype in dict.fromkeys(held[name].dtype for name in self._moving):  # in one order on all ranks
            names = [name for name in self._moving if held[name].dtype == dtype]
            flat = all_reduce_mean(torch.cat([held[name].flatten() for name in names]))
            for name, part in zip(names, flat.split([held[name].numel() for name in names]), strict=True):
                owner, _, leaf = name.rpartition(".")  # a new tensor, as backward may need the old one
                setattr(self.module.get_submodule(owner), leaf, part.view_as(held[name]).clone())


def _refuse_alone(loss: nn.Module, args: tuple) -> None:
    if loss.training and torch.is_grad_enabled() and size() > 1 and not is_synchronized_forward():
        raise RuntimeError(
            f"this loss is trained by {size()} ranks, which would drift apart: call the module that parallel() gave"
        )


def _trial(loss: nn.Module, parts: Sequence[Tensor]) -> tuple[bool, list[str]]:
    """Try one step: whether it leaves parameters unused, and which floating-point buffers it updates."""
    of_first = [on_backend_device(part) for part in parts]
    for part in of_first:
        distributed.broadcast(part, src=0)
    x = parts[0]
    before = {name: tensor.detach().clone() for name, tensor in _held(loss).items()}
    with torch.random.fork_rng([x.device] if x.is_cuda else []), torch.enable_grad(), synchronized_forward():
        value = loss(*[part.to(x.device) for part in of_first])
        if not value.requires_grad:
            raise RuntimeError("parallel: the loss has no gradient: nothing in it is to be trained")
        found = torch.autograd.grad(value, [p for p in loss.parameters() if p.requires_grad], allow_unused=True)
    after = {name: tensor for name, tensor in _held(loss).items() if name in before}
    moved = [name for name, tensor in after.items() if not _same(before[name], tensor)]
    for name in moved:
        after[name].detach().copy_(before[name])
    moved = [name for name in moved if name not in _rank_buffers(loss)]
    averages = [name for name, buffer in loss.named_buffers() if name in moved and buffer.is_floating_point()]
    return any(gradient is None for gradient in found), averages


def _held(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module, without uninitialized (lazy) ones."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor for name, tensor in tensors.items() if not is_lazy(tensor)}


def _rank_buffers(module: nn.Module) -> set[str]:
    """Names of the buffers that are each rank's own."""
    named = module.named_modules(remove_duplicate=False)
    return {f"{name}.{own}" if name else own for name, each in named for own in getattr(each, "rank_buffers", ())}


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit by bit, so that NaN equals itself."""
    first, second = (tensor.detach().reshape(-1).view(torch.uint8) for tensor in (a, b.to(a.device)))
    return torch.equal(first, second)
