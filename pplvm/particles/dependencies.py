"""Which terms of the log-weight depend on a latent: only these belong into its learning signal.

References:
    Schulman, Heess, Weber and Abbeel, Gradient estimation using stochastic computation graphs, 2015,
    arXiv:1506.05254
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops import provenance
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pplvm.particles.contract import Site, deterministic_sites, latents, sample_sites
from pplvm.particles.enumeration import next_state, one_coordinate
from pplvm.particles.flows import log_density
from pplvm.particles.pair import Pair, Particles, cuda_devices, sum_sites
from pplvm.particles.structure import Structure, structure

__all__ = ["Dependents", "Written", "another_value", "dependents", "dependents_in", "dependents_of"]


MOST = 64
"""Shapes and numbers that answers are kept for; a schedule's number may be another at every step."""


@dataclass(frozen=True)
class Dependents:
    """The sites of model and guide that depend on one latent of the guide."""

    model: frozenset[str]  # sites of the model whose density it changes, at once or through later draws
    guide: frozenset[str]  # the same of the guide, itself and deterministic sites among them
    redrawn: frozenset[str]  # latents of the guide that are drawn given it, at once or through others

    def signal(self, drawn: Particles) -> Tensor:
        """The learning signal of a latent, (K, B): the terms of the log-weights that depend on it."""
        log_p = {name: term for name, term in drawn.log_p_sites.items() if name in self.model}
        return sum_sites(log_p, drawn.log_p) - sum_sites(
            {name: term for name, term in drawn.log_q_sites.items() if name in self.guide}
        )


def dependents_of(pair: Pair, drawn: Particles, args: tuple, kwargs: dict) -> dict[str, Dependents]:
    """The dependents of each latent of the guide, cached by structure and arguments.

    Where the program's Python reads values of tensors, or shapes that depend on values, which may decide who reads
    whom, it is found anew at every call.
    """
    return dependents_in(pair, structure(drawn.model_trace, drawn.guide_trace), args, kwargs)


def dependents_in(pair: Pair, own: Structure, args: tuple, kwargs: dict) -> dict[str, Dependents]:
    """As `dependents`, for a trace of model and guide with this structure."""
    memory = {} if pair.structures is None else pair.structures.memory(own)
    question = "dependents", _shapes_and_values(args), _shapes_and_values(kwargs)
    found, reads_values = memory.get(question, ({}, True))
    if not found or (reads_values and get_proxy_mode() is None):  # what is traced cannot decide by values
        if len(memory) >= MOST:
            memory.clear()
        memory[question] = found, _ = _dependents(pair.again, args, kwargs)
    return found


def _shapes_and_values(argument: Any) -> Any:
    """The cache key of an argument: shapes, numbers and strings, within containers too, but no tensor values."""
    if isinstance(argument, Tensor):
        return tuple(argument.shape)
    if isinstance(argument, dict):
        return tuple((key, _shapes_and_values(each)) for key, each in argument.items())
    if isinstance(argument, list | tuple):
        return tuple(map(_shapes_and_values, argument))
    return argument if isinstance(argument, int | float | str) else type(argument)


def dependents(pair: Pair, args: tuple, kwargs: dict) -> dict[str, Dependents]:
    """The dependents of each latent of the guide; random states and buffers are restored.

    Tensors are followed through the program by Pyro's provenance. Where a program leaves torch (numpy, say)
    the trail is lost, so each latent is also changed in turn, and whatever moves counts as dependent.
    """
    return _dependents(pair.again, args, kwargs)[0]


def _dependents(pair: Pair, args: tuple, kwargs: dict) -> tuple[dict[str, Dependents], bool]:
    """The dependents of each latent, and whether the program's Python code reads values of tensors."""
    assert pair.guide is not None
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        drawn = pair.run_guide(1, args, kwargs)
        names = list(latents(drawn))
        guide, model, reads_values = _followed(pair, drawn, args, kwargs)
        for name in names:
            for found, moved in zip((guide, model), _moved(pair, drawn, name, args, kwargs), strict=True):
                for other in moved:
                    found[other] = found[other] | {name}
    return {name: _closure(name, names, guide, model) for name in names}, reads_values


def _closure(name: str, names: list[str], guide: dict[str, frozenset], model: dict[str, frozenset]) -> Dependents:
    reached = {name}
    for later in names[names.index(name) + 1 :]:  # a guide draws parents first
        if guide[later] & reached:
            reached.add(later)
    return Dependents(
        model=frozenset(other for other, parents in model.items() if parents & reached),
        guide=frozenset(other for other, parents in guide.items() if (parents | {other}) & reached),
        redrawn=frozenset(reached - {name}),
    )


def _followed(
    pair: Pair, drawn: Trace, args: tuple, kwargs: dict
) -> tuple[dict[str, frozenset], dict[str, frozenset], bool]:
    """The latents that each site's density reads, in guide and model, by provenance; whether Python reads values."""
    with TrackProvenance(), Written(), _Reads() as reads:
        guide_trace = pair.run(poutine.replay(pair.guide, trace=drawn), 1, args, kwargs)
        model_trace = pair.run(poutine.replay(pair.model, trace=drawn), 1, args, kwargs)
        found = [{name: _read(site) for name, site in sample_sites(t).items()} for t in (guide_trace, model_trace)]
        found[0] |= {name: get_provenance(site["value"]) for name, site in deterministic_sites(guide_trace).items()}
    names = frozenset(latents(drawn))
    guide, model = ({name: read & names for name, read in terms.items()} for terms in found)
    return guide, model, reads.found


def _read(site: Site) -> frozenset:
    """The provenance of a site's density and mask."""
    value = site["value"] if not site["is_observed"] else detach_provenance(site["value"])
    return get_provenance([log_density(dict(site, value=value)), site["mask"]])


class Written(TorchFunctionMode):
    """Tracks provenance of in-place writes, which Pyro tracks through results only."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, tuple[Tensor, frozenset]] = {}  # by memory; a tensor that is kept frees none

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves(detach_provenance([args, kwargs])) if isinstance(leaf, Tensor)]
        written = frozenset[str]().union(*(self._held[m][1] for m in map(_memory, tensors) if m in self._held))
        result = func(*args, **kwargs)
        target = kwargs.get("out", args[0] if args and _writes(func) else None)
        read = written | get_provenance([args, kwargs])
        if read and isinstance(target, Tensor):
            target = detach_provenance(target)
            self._held[_memory(target)] = (target, read)
        return track_provenance(result, written) if written else result


class _Reads(TorchFunctionMode):
    """Notes whether a program's own code reads tensor values, or makes shapes of them, and so may branch on them."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if not self.found and (func in READS or _selects(func, args)):
            self.found = not _is_library(sys._getframe(1))
        return func(*args, **(kwargs or {}))


READ_BY_TENSORS = "__bool__ __float__ __int__ __index__ __array__ __contains__ item tolist numpy"
READ_BY_BOTH = "equal allclose is_nonzero nonzero argwhere masked_select unique unique_consecutive bincount"
READS = frozenset(
    getattr(owner, name)
    for owner, names in ((Tensor, READ_BY_TENSORS), (Tensor, READ_BY_BOTH), (torch, READ_BY_BOTH))
    for name in names.split()
    if hasattr(owner, name)
)


def _selects(func: Any, args: tuple) -> bool:
    """Whether rows are selected by a boolean mask, so that their number depends on values."""
    if func is torch.where or func is Tensor.where:
        return len(args) == 1
    return func is Tensor.__getitem__ and any(
        isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1])
    )


def _is_library(frame: Any) -> bool:
    """Whether a frame is code of torch or Pyro."""
    while frame is not None and frame.f_code.co_filename in PYTHON_OF_TENSORS:
        frame = frame.f_back
    homes = (Path(torch.__file__).parent, Path(pyro.__file__).parent)
    return frame is None or any(home in Path(frame.f_code.co_filename).parents for home in homes)


PYTHON_OF_TENSORS = {
    module.__file__ for module in (torch._tensor, torch.functional, torch._jit_internal, torch.overrides, provenance)
}


def _memory(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or under vmap
        return id(tensor)


def _writes(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.startswith("__i") if name.startswith("__") else name.endswith("_"))


def _moved(pair: Pair, drawn: Trace, name: str, args: tuple, kwargs: dict) -> tuple[set[str], set[str]]:
    """Sites of guide and model whose density changes when one latent alone is redrawn."""
    changed = drawn.copy()
    site = drawn.nodes[name]
    changed.nodes[name] = dict(site, value=another_value(site["fn"], site["value"]))
    found: list[set[str]] = []
    for program in (pair.guide, pair.model):
        runs = [pair.run(poutine.replay(program, trace=trace), 1, args, kwargs) for trace in (drawn, changed)]
        before, after = (pair.site_terms(run) for run in runs)
        if program is pair.guide:
            for terms, run in zip((before, after), runs, strict=True):
                terms |= {other: site["value"] for other, site in deterministic_sites(run).items()}
        found.append({other for other in before if not torch.equal(before[other], after[other])})
    return found[0], found[1]


def another_value(fn: Distribution, value: Tensor) -> Tensor:
    """Another value of a latent: the next state of a finite distribution, else a new draw."""
    return next_state(fn, value) if one_coordinate(fn).has_enumerate_support else fn.sample()
