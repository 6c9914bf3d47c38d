"""Traces a function of tensors into one graph of torch operations, by `make_fx`."""

import contextlib
import linecache
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode

from pplvm.graphs.nodes import is_random, is_write, root_of
from pplvm.graphs.noise import Draw, lift_noise
from pplvm.particles.pair import validation

__all__ = ["NotOneGraph", "Traced", "operations", "trace"]


class NotOneGraph(Exception):
    """A function cannot be traced; the message says where and why."""


@dataclass(frozen=True)
class Traced:
    """A graph (held..., args..., noise...) -> outputs, pure but for the buffers that it writes."""

    graph: GraphModule
    noise: tuple[Draw, ...]  # its last inputs
    num_outputs: int

    @property
    def is_pure(self) -> bool:
        """Whether all randomness is an input, and no parameter or buffer changes."""
        nodes = self.graph.graph.nodes
        written = [root_of(node.all_input_nodes[0]) for node in nodes if is_write(node)]
        return not any(map(is_random, nodes)) and all(
            root.op == "call_function" or str(root.target).startswith("noise") for root in written
        )


def trace(function: Callable[..., Sequence[Tensor]], held: Sequence[Tensor], args: Sequence[Tensor]) -> Traced:
    """Run a function once and record its operations, the backward pass included.

    Arguments:
        function: of `args`, to a sequence of tensors.
        held: what else it reads, parameters and buffers, found by identity wherever the program keeps them.
        args: tensors of the shapes that the graph will be for.

    Raises:
        NotOneGraph: Python decides by a tensor's values, or reads what is neither held nor given; it names the place.
    """
    held, args = list(held), list(args)
    site = _LastSite()
    try:
        with ExitStack() as stack:
            for context in (validation(False), *map(_disabled, CHECKS), _OneGraph(), site):
                stack.enter_context(context)
            torch.clear_autocast_cache()  # weights that were cast before would be constants
            graph = operations(lambda *inputs: list(function(*inputs[len(held) :])), [*held, *args])
    except Exception as error:
        raise NotOneGraph(_error_message(error, site.name)) from error
    finally:
        torch.clear_autocast_cache()
    _refuse_what_is_hidden(graph)
    _refuse_sizes_of_the_data(graph, len(held))
    noise = lift_noise(graph)
    outputs = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    return Traced(graph, noise, len(outputs))


def operations(
    function: Callable[..., Any], inputs: Sequence[Tensor], instead: Mapping[OpOverload, Callable] | None = None
) -> GraphModule:
    """Record the operations of a function on these tensors, by `make_fx`.

    The shapes of all nodes are kept in one fake mode; to make one a node, its default, takes a third of the time.

    Arguments:
        instead: of some operations, what computes the same.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function, dict(instead or {}), tracing_mode="real")(*inputs)


CHECKS = ("pyro.util.torch_isnan", "pyro.util.torch_isinf", "torch.distributions.Distribution._validate_sample")
"""Looks at values that warn or refuse and change nothing; the loss has been checked when it is traced."""


def _disabled(check: str) -> Any:
    return patch(check, lambda *args: False)


class _LastSite(Messenger):
    """A Pyro messenger that remembers the last site."""

    name: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            self.name = msg["name"]


class _OneGraph(TorchFunctionMode):
    """Replaces torch functions that read data on the host where their result does not depend on the data."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in READS:
            raise NotOneGraph(f"Tensor.{func.__name__}() hands its values to Python")
        if func is torch.nn.functional.one_hot:
            return _one_hot(*args, **kwargs)
        if func is torch.tensor and isinstance(args[0], Tensor):
            return args[0].detach().to(**{k: v for k, v in kwargs.items() if k in ("dtype", "device")}, copy=True)
        if func is torch.Tensor.item:
            return args[0].detach()  # a number to all that computes with it; what decides by it is refused as ever
        return func(*args, **kwargs)


READS = (torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__)


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 0:
        raise NotOneGraph("one_hot counts the classes by the data: give it num_classes")
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()


def _refuse_what_is_hidden(graph: GraphModule) -> None:
    """Refuse constants that hide state: generators, parameters without a module, tensors written to."""
    for node in graph.graph.nodes:
        constant = getattr(graph, node.target) if node.op == "get_attr" else None
        if isinstance(constant, torch.Generator):
            raise NotOneGraph("it draws from a generator of its own")
        if constant is not None and not isinstance(constant, Tensor):
            raise NotOneGraph("processes exchange numbers in the middle of it")
        if constant is not None and constant.requires_grad:
            shape = tuple(constant.shape)
            raise NotOneGraph(f"a parameter of shape {shape} belongs to no module: make it an attribute of the program")
        if is_write(node) and root_of(node).op == "get_attr":
            raise NotOneGraph("a tensor that no module holds is changed: make it a buffer (register_buffer)")


def _refuse_sizes_of_the_data(graph: GraphModule, num_held: int) -> None:
    """Refuse results of data-dependent size, except by masks that are parameters or buffers."""
    held = [node for node in graph.graph.nodes if node.op == "placeholder"][:num_held]
    for node in graph.graph.nodes:
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
            continue
        picks = node.all_input_nodes
        if node.target is torch.ops.aten.index.Tensor:
            picks = [each for each in node.all_input_nodes[1:] if each.meta["val"].dtype in (torch.bool, torch.uint8)]
        if any(each not in held for each in picks):
            line = (node.stack_trace or "").strip().splitlines()[-1:]
            raise NotOneGraph(
                "the data decide the size of a tensor (x[mask], nonzero, unique): multiply by the mask, or use "
                f"torch.where{''.join(f', {each.strip()}' for each in line)}"
            )


def _error_message(error: Exception, site: str | None) -> str:
    """Where tracing failed and why, in one line."""
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "_local_scalar_dense" in cause or "is_nonzero" in cause:
        cause = "Python decides or computes by a tensor's value (if, while, float(), .item())"
    place, code = _place(error)
    after = f" at or after site {site!r}" if site else ""
    return f"{cause}{after}{f', {place}: {code}' if place else ''}"


def _place(error: BaseException) -> tuple[str, str]:
    """The innermost line that is neither torch's nor Pyro's nor this library's, else the innermost of Pyro."""
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    own = [(name, line) for name, line in frames if not _is_machinery(name)]
    own = own or [(name, line) for name, line in frames if Path(pyro.__file__).parent in Path(name).parents]
    if not own:
        return "", ""
    name, line = own[-1]
    return f"{Path(name).name} line {line}", linecache.getline(name, line).strip()


def _is_machinery(name: str) -> bool:
    homes = (Path(torch.__file__).parent, Path(pyro.__file__).parent, Path(__file__).parent.parent)
    return name.startswith("<") or name == contextlib.__file__ or any(home in Path(name).parents for home in homes)
