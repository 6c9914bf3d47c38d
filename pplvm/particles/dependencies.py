"""Which terms of the log-weight a latent can change: only these belong into its learning signal.

References:
    Schulman, Heess, Weber and Abbeel, Gradient estimation using stochastic computation graphs, 2015,
    arXiv:1506.05254
"""

from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.enumeration import coordinates, support
from pplvm.particles.pair import Pair, Particles, cuda_devices, sum_sites

__all__ = ["Dependencies", "Dependents", "dependents"]


@dataclass(frozen=True)
class Dependents:
    """What depends on one latent of the guide."""

    model: frozenset[str]  # sites of the model whose density it changes, at once or through later draws
    guide: frozenset[str]  # the same of the guide, itself among them
    redrawn: frozenset[str]  # latents of the guide that are drawn given it, at once or through others

    def signal(self, drawn: Particles) -> Tensor:
        """The terms of the log-weights that depend on the latent: what its draw earned, (K, B)."""
        log_p = sum_sites({name: term for name, term in drawn.log_p_sites.items() if name in self.model})
        return log_p - sum_sites({name: term for name, term in drawn.log_q_sites.items() if name in self.guide})


class Dependencies:
    """What depends on what in the program that was seen last; found once, on its first batch."""

    def __init__(self) -> None:
        self._pair: Pair | None = None
        self._found: dict[str, Dependents] = {}

    def of(self, pair: Pair, args: tuple, kwargs: dict) -> dict[str, Dependents]:
        if self._pair is None or self._pair != pair:
            self._pair, self._found = pair, dependents(pair, args, kwargs)
        return self._found


def dependents(pair: Pair, args: tuple, kwargs: dict) -> dict[str, Dependents]:
    """For each latent of the guide, what depends on it; leaves the random state as it was.

    Tensors are followed through the program by Pyro's provenance. Where a program leaves torch (numpy, say)
    the trail is lost, so each latent is also changed in turn, and whatever moves counts as dependent.
    """
    assert pair.guide is not None
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        drawn = pair.run_guide(1, args, kwargs)
        names = list(latents(drawn))
        guide, model = _followed(pair, drawn, args, kwargs)
        for name in names:
            for found, moved in zip((guide, model), _moved(pair, drawn, name, args, kwargs), strict=True):
                for other in moved:
                    found[other] = found[other] | {name}
    return {name: _closure(name, names, guide, model) for name in names}


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


def _followed(pair: Pair, drawn: Trace, args: tuple, kwargs: dict) -> tuple[dict[str, frozenset], dict[str, frozenset]]:
    """The latents that each site's density reads, in the guide and in the model."""
    with TrackProvenance(), _Written():
        guide_trace = pair.run(poutine.replay(pair.guide, trace=drawn), 1, args, kwargs)
        model_trace = pair.run(poutine.replay(pair.model, trace=drawn), 1, args, kwargs)
        found = [{name: _read(site) for name, site in sample_sites(t).items()} for t in (guide_trace, model_trace)]
    names = frozenset(latents(drawn))
    guide, model = ({name: read & names for name, read in terms.items()} for terms in found)
    return guide, model


def _read(site: Site) -> frozenset:
    """What the density of a site reads, its mask too."""
    value = site["value"] if not site["is_observed"] else detach_provenance(site["value"])
    return get_provenance([site["fn"].log_prob(value), site["mask"]])


class _Written(TorchFunctionMode):
    """Provenance of what is written into a tensor, which Pyro follows through results alone."""

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


def _memory(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or under vmap
        return id(tensor)


def _writes(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.startswith("__i") if name.startswith("__") else name.endswith("_"))


def _moved(pair: Pair, drawn: Trace, name: str, args: tuple, kwargs: dict) -> tuple[set[str], set[str]]:
    """Sites of guide and model whose density changes when one latent alone is drawn anew."""
    changed = drawn.copy()
    site = drawn.nodes[name]
    changed.nodes[name] = dict(site, value=_another(site["fn"], site["value"]))
    found: list[set[str]] = []
    for program in (pair.guide, pair.model):
        before, after = (
            pair.site_terms(pair.run(poutine.replay(program, trace=trace), 1, args, kwargs))
            for trace in (drawn, changed)
        )
        found.append({other for other in before if not torch.equal(before[other], after[other])})
    return found[0], found[1]


def _another(fn: Distribution, value: Tensor) -> Tensor:
    """The next state, certain to differ as a rare one drawn anew is not; a new draw where states are endless."""
    single = coordinates(fn)
    if not single.has_enumerate_support:
        return fn.sample()
    if isinstance(single, OneHotCategorical):
        return value.roll(1, -1)
    states, own = support(fn), len(single.event_shape)  # (S, own...)
    here = value.reshape(*value.shape[: value.dim() - own], 1, *single.event_shape) == states
    place = (here.flatten(-own) if own else here.unsqueeze(-1)).all(-1).long().argmax(-1)
    return states[(place + 1) % len(states)]
