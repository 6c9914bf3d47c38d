"""A pretend accelerator: tensors that say they live on another device, keep their numbers on the CPU, refuse to mix.

It finds, on a machine without a GPU, what CUDA refuses: a constant made on the CPU inside a program, a buffer that
`.to(device)` left behind, a draw or a generator of the wrong device, a mask or an index from elsewhere. Numbers,
autograd, Pyro, `vmap` and graphs are the real ones, so all results are those of the CPU, bit for bit.

    with pretend_device() as device:
        program = VAE(64).to(device)
        Loss(Pathwise(), program)(torch.zeros(5, 64, device=device)).backward()

It says nothing of speed, streams and CUDA's own numerics, nor of Inductor and Triton. One random stream serves both
devices, so that code which restores only one of the two goes unseen: `-m gpu` runs the same tests on CUDA, where
`host_noise` draws on the CPU and moves the draws, for CUDA has another stream from the same seed.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from unittest.mock import patch

import pyro  # noqa: F401  before a mode is on: it makes tensors as it is imported
import torch
from pyro.ops.provenance import ProvenanceTensor
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "lazy"
"""A device that torch knows the name of and has no code for; its backward passes run in the thread that asks."""

COPIES = {"aten::copy_", "aten::_to_copy", "aten::is_same_size", "aten::_copy_from"}
"""Operations that take tensors of several devices."""

INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Operations whose indices may lie on the CPU where what they index does not."""

NUMBERS = {"aten::masked_fill", "aten::masked_fill_", "aten::fill_", "aten::fill", "aten::lerp_"}
"""Operations that take a number from the CPU, beside all pointwise ones."""

LITERALS = {torch.tensor, torch.as_tensor, torch.asarray}
"""Functions that allocate behind the dispatcher."""


def _of_no_kernel(*_: Any) -> Tensor:
    raise AssertionError("operations on the device are run on the tensors inside")


KERNELS = torch.library.Library("aten", "IMPL")
"""Kernels of the device where torch would else compute a slope in other steps than on the CPU, to other bits."""
KERNELS.impl("silu_backward", _of_no_kernel, "Lazy")


class PretendTensor(Tensor):
    """A CPU tensor, `inner`, under another device's name."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "PretendTensor":
        found = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(NAME, 0),
        )
        found.inner = inner
        return found

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert a tensor on {NAME}:0 to numpy: use Tensor.cpu() first")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    def __repr__(self, **_: Any) -> str:
        return f"{self.detach().cpu()!r} on {NAME}:0"

    def __format__(self, spec: str) -> str:
        return format(self.detach().cpu(), spec)

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


@contextlib.contextmanager
def pretend_device() -> Iterator[torch.device]:
    """The device, as long as it is there."""
    before = ProvenanceTensor.__new__
    ProvenanceTensor.__new__ = _tracked
    try:
        with (
            patch("torch.is_autocast_enabled", _may_be_cast),
            patch.object(proxy_tensor, "HANDLED_TYPES", (*proxy_tensor.HANDLED_TYPES, PretendTensor)),
            _OnPretend(),
            _Literals(),
        ):
            yield torch.device(NAME, 0)
    finally:
        ProvenanceTensor.__new__ = before


class host_noise(TorchDispatchMode):
    """Every draw is made on the CPU, from its stream, and moved to the device of what asked for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        tensors = _tensors(args, [])
        device = kwargs["device"] if kwargs.get("device") is not None else tensors[0].device if tensors else None
        if device is None or torch.device(device).type == "cpu":
            return func(*args, **kwargs)
        to_host = lambda x: x.cpu() if isinstance(x, Tensor) else torch.device("cpu") if x is device else x
        drawn = func(*_mapped(to_host, args), **{name: _mapped(to_host, value) for name, value in kwargs.items()})
        if torch.Tag.inplace in func.tags:
            return args[0].copy_(drawn)
        return _mapped(lambda x: x.to(device) if isinstance(x, Tensor) else x, drawn)


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operation on the tensors inside, after a look at where each lies."""
    tensors = _tensors(args, [])
    if kwargs:
        _tensors(tuple(kwargs.values()), tensors)
    there = [x for x in tensors if type(x) is PretendTensor]
    device = kwargs.get("device")
    goes_there = bool(there) if device is None else _is_there(device)
    if not (there or goes_there) or any(isinstance(x, FakeTensor) for x in tensors):
        return func(*args, **kwargs)
    name, is_write = _named(func)
    if len(there) not in (0, len(tensors)):
        _refuse_mixed(func, name, args, tensors)
    if goes_there and isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"expected a '{NAME}' device type for generator but found 'cpu' ({name})")
    if name == "aten::_local_scalar_dense":
        goes_there = False
    elif is_write and isinstance(args[0], Tensor):
        goes_there = type(args[0]) is PretendTensor
    found = func(*_mapped(_inside, args), **{name: _mapped(_inside, value) for name, value in kwargs.items()})
    if not goes_there:
        return found
    known = {id(x.inner): x for x in there}  # operations in place return their argument
    return _mapped(lambda x: _outside(x, known), found)


@cache
def _named(func: Any) -> tuple[str, bool]:
    """Its name, and whether its first argument is written."""
    name = func._schema.name
    return name, name.endswith("_")


def _refuse_mixed(func: Any, name: str, args: tuple, tensors: list[Tensor]) -> None:
    """Raise what CUDA raises where an operation takes tensors of two devices."""
    if name in COPIES:
        return
    strangers = [x for x in tensors if not isinstance(x, PretendTensor)]
    if name in INDEXED:
        on = isinstance(args[0], PretendTensor)
        indices = {id(x) for x in args[1] if x is not None} if on else set()
        strangers = [x for x in strangers if id(x) not in indices]
    if torch.Tag.pointwise in func.tags or name in NUMBERS or name in INDEXED:
        written = id(args[0]) if name.endswith("_") else None
        strangers = [x for x in strangers if x.dim() or id(x) == written]
    if strangers:
        shapes = ", ".join(str(tuple(x.shape)) for x in strangers)
        raise RuntimeError(f"expected all tensors on one device, found {NAME}:0 and cpu: {name} of {shapes} on cpu")


def _tensors(given: Any, found: list[Tensor]) -> list[Tensor]:
    """All tensors of nested lists and tuples, after those that were found."""
    for each in given:
        if isinstance(each, Tensor):
            found.append(each)
        elif type(each) in (list, tuple):
            _tensors(each, found)
    return found


def _mapped(change: Callable[[Any], Any], given: Any) -> Any:
    """Nested lists and tuples with each member changed; torch's own pytrees take three times as long."""
    if type(given) in (list, tuple):
        return type(given)([_mapped(change, each) for each in given])
    return change(given)


def _is_there(device: Any) -> bool:
    return torch.device(device).type == NAME


def _inside(x: Any) -> Any:
    if isinstance(x, PretendTensor):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def _outside(x: Any, known: dict[int, PretendTensor]) -> Any:
    if not isinstance(x, Tensor) or isinstance(x, PretendTensor):
        return x
    return known[id(x)] if id(x) in known else PretendTensor(x)


class _OnPretend(TorchDispatchMode):
    """Makes tensors on the device where no tensor says so; a tracer sees each operation first, as on any device."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # no wrapper around each operation, which takes as long as the operation

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if (tracer := proxy_tensor.get_proxy_mode()) is None:
            return _run(func, args, kwargs or {})
        with proxy_tensor.disable_proxy_modes_tracing(), self:
            return tracer.__torch_dispatch__(func, types, args, kwargs)


class _Literals(TorchFunctionMode):
    """`torch.tensor(..., device=...)` and its like, made on the CPU and moved, and lists and numbers in an index."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in LITERALS and kwargs.get("device") is not None and _is_there(kwargs["device"]):
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.new_tensor and isinstance(args[0], PretendTensor):
            kwargs = {"dtype": args[0].dtype} | kwargs
            return torch.tensor(*args[1:], **kwargs).to(args[0].device)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], PretendTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(each) if isinstance(each, list) else each for each in index)
            values = (torch.tensor(x, dtype=args[0].dtype) if isinstance(x, int | float) else x for x in args[2:])
            args = args[0], index if isinstance(args[1], tuple) else index[0], *values
        return func(*args, **kwargs)


def _may_be_cast(kind: str | None = None, known: Callable = torch.is_autocast_enabled) -> bool:
    """Automatic casting knows no such device."""
    return False if kind == NAME else known() if kind is None else known(kind)


def _tracked(cls: type, data: Tensor, provenance: frozenset = frozenset(), **_: Any) -> Tensor:
    """Pyro's wrapper that follows where a tensor comes from, around one that is a wrapper itself."""
    if not provenance:
        return data
    found = (data.detach().inner if isinstance(data, PretendTensor) else data).as_subclass(cls)
    found._t, found._provenance = data, provenance
    return found
