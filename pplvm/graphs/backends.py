"""Two ways to run a traced graph: replay operation by operation, or kernels compiled by Inductor."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from pplvm.graphs.simplify import copied, own_outputs, simplified, with_python_calls

__all__ = ["Runner", "inductor", "replay"]

Runner = Callable[[list[Tensor]], Sequence[Tensor]]
"""Runs a graph on all of its inputs: held, args, noise."""


def replay(graph: GraphModule, inputs: Sequence[Tensor]) -> Runner:
    """Run the graph's operations one by one, without autograd and with little Python overhead.

    Arguments:
        inputs: on which it is tried.
    """
    short = simplified(graph)
    plain, quick = _bare(short), _bare(with_python_calls(short))
    try:
        is_same = all(torch.equal(a, b) for a, b in zip(_once(quick, inputs), _once(plain, inputs), strict=True))
    except Exception:  # a binding that takes other arguments than its operation
        is_same = False
    return quick if is_same else plain


def inductor(graph: GraphModule, inputs: Sequence[Tensor]) -> Runner:
    """Compile the graph with Inductor for the shapes and devices of `inputs`; takes seconds, less from its disk cache.

    Raises:
        Exception: whatever stops the compiler, such as a missing C++ compiler.
    """
    own = copied(graph)
    own_outputs(own)
    own.recompile()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch tells of itself
        from torch import _inductor

        compiled: Any = _inductor.compile(own, list(inputs), options={"fallback_random": True})

    def run(inputs: list[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            return compiled(*inputs)

    return run


def _bare(graph: GraphModule) -> Runner:
    forward = graph.forward

    def run(inputs: list[Tensor]) -> Sequence[Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            return forward(*inputs)

    return run


def _once(run: Runner, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Run once from a fixed seed on copies, with NaN replaced so that results can be compared."""
    devices = sorted({x.get_device() for x in inputs if x.is_cuda})
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        return [x.nan_to_num() for x in run([x.detach().clone() for x in inputs])]
