"""Work over what the machine can do: FLOPs and bytes of a step, and the measured rates of products and of copies."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Ceilings", "Work", "ceilings", "count"]

COUNTED = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten._fused_adam_")


@dataclass(frozen=True)
class Work:
    """What a step cannot do without: FLOPs of matrix products; bytes that these and the optimizer read and write."""

    flop: int
    bytes: int


@dataclass(frozen=True)
class Ceilings:
    flop_per_second: float  # of a product of two square matrices
    bytes_per_second: float  # read and written by a copy that no cache holds


class _Bytes(TorchDispatchMode):
    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if str(function).startswith(tuple(f"{name}." for name in COUNTED)):
            touched = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.nbytes for tensor in touched)
        return out


def count(step: Callable[[], object]) -> Work:
    """Of an eager step of torch.

    Example:
        >>> a = torch.ones(2, 3)
        >>> count(lambda: a @ a.T)
        Work(flop=24, bytes=64)
    """
    with FlopCounterMode(display=False) as flops, _Bytes() as traffic:
        step()
    return Work(flops.get_total_flops(), traffic.total)


def ceilings(device: str, size: int = 2048, seconds: float = 0.5) -> Ceilings:
    """Measured on this device with as many threads as torch has now: the best of `seconds` of runs, or of five."""
    a = torch.randn(size, size, device=device)
    b, out = torch.randn_like(a), torch.empty_like(a)
    large = torch.empty(2**26, device=device)
    other = torch.empty_like(large)
    product = _fastest(lambda: torch.mm(a, b, out=out), device, seconds)
    copy = _fastest(lambda: other.copy_(large), device, seconds)
    return Ceilings(2 * size**3 / product, 2 * large.nbytes / copy)


def _fastest(run: Callable[[], object], device: str, seconds: float) -> float:
    times, begin = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
