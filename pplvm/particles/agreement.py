"""Particles, states and data that share a run, held against runs of their own: each must have the same densities.

K particles stand in a dimension left of all plates, the states of latents that are summed out in further ones left
of it, data side by side in the batch. A program that counts dimensions from the left, or normalizes over the batch,
mixes them without an error.
"""

from collections.abc import Collection

import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pplvm.particles.comparison import Comparison
from pplvm.particles.contract import ProgramError, Site, latents
from pplvm.particles.enumeration import extreme_states, is_enumerable, next_state
from pplvm.particles.layers import within_rounding
from pplvm.particles.pair import Pair

__all__ = ["data_disagree", "particles_disagree", "refuse", "states_disagree"]

PARTICLES = 2
"""Particles at once, the fewest that are many."""


def particles_disagree(pair: Pair, args: tuple, kwargs: dict) -> str | None:
    """Why K > 1 particles cannot run at once, in a sentence; None if each has the densities that it has alone.

    Noise beside the sites is held at its mean and batch normalization at fixed statistics. Leaves no trace.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pplvm.particles.pair import pair_up
        >>> def model(x):
        ...     with pyro.plate("batch", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z - z.mean(0) if z.dim() > 1 else z, 1.0), obs=x)
        >>> x = torch.zeros(3)
        >>> print(particles_disagree(pair_up(model, None, (x,), {}), (x,), {}).split(",")[0])
        with K > 1 particles at once
    """

    def draw() -> Trace:
        if pair.guide is None:
            return _held(pair.run_model(PARTICLES, None, args, kwargs))
        return _held(pair.run_guide(PARTICLES, args, kwargs))

    what, alone = "with K > 1 particles at once", "one by one"
    return Comparison(what, alone, pair, PARTICLES, args, kwargs).fault(draw)


def states_disagree(
    pair: Pair, args: tuple, kwargs: dict, num_particles: int = 1, *, of_guide: bool = False
) -> str | None:
    """Why discrete latents cannot be summed out, in a sentence; None if each state has the densities it has alone.

    Arguments:
        num_particles: of the latents that are drawn; more than one are run as two.
        of_guide: whether the guide's latents are summed out, and not those of the model that the guide leaves out.

    Raises:
        ProgramError: a latent is continuous, or there are too many states.
    """
    K = min(num_particles, PARTICLES)

    def draw() -> Trace:
        if pair.guide is None:
            return _held(extreme_states(pair, pair.model, K, args, kwargs))
        if of_guide:
            drawn = extreme_states(pair, pair.guide, 1, args, kwargs)
        else:
            drawn = pair.run_guide(K, args, kwargs)
        return _held(drawn, extreme_states(pair, poutine.replay(pair.model, trace=drawn), K, args, kwargs))

    what = "with the states of a discrete latent in a dimension of their own, to sum it out"
    return Comparison(what, "state by state", pair, K, args, kwargs).fault(draw)


def data_disagree(pair: Pair, args: tuple, kwargs: dict, names: Collection[str] | None = None) -> str | None:
    """Why a datum's draws are to blame for other data's densities, in a sentence; None if they are not.

    Half of the batch keeps its draws while those of the others change. Leaves no trace.

    Arguments:
        names: of the latents that change; all unless given.
    """
    comparison = Comparison("", "", pair, 1, args, kwargs)
    with comparison.contained():
        held = _held(pair.run_guide(1, args, kwargs) if pair.guide is not None else None)
        if names is None or not held.nodes.keys() >= set(names):  # the model has latents of its own
            held = _held(held, pair.run_model(1, held, args, kwargs))
    changed, rows = held.copy(), list[int]()
    for name, site in latents(held).items():
        if names is None or name in names:
            rows = _changed_rows(site)
            changed.nodes[name] = dict(site, value=_with_other_draws(site, rows))
    if not rows:
        return None
    for role in comparison.programs:
        if (moved := _moved(comparison, role, held, changed, rows)) is not None:
            name, row, before, after = moved
            return (
                f"{role} site {name!r} gives datum {row} a log-density of {before:.4g}, and of {after:.4g} when other "
                "data of the batch have other draws, as batch normalization in train mode does: put such layers in "
                "evaluation mode (layer.eval()), or normalize each datum by itself (GroupNorm, LayerNorm)"
            )
    return None


def _moved(
    comparison: Comparison, role: str, held: Trace, changed: Trace, rows: list[int]
) -> tuple[str, int, float, float] | None:
    """The first density of a row that keeps its draws and moves with those of others: site, row, before and after."""
    try:
        before, after = (comparison.terms(role, trace, 1, as_it_is=True) for trace in (held, changed))
    except Exception:  # a flow without inverse, say
        return None
    for name, term in before.items():
        apart = ~within_rounding(term, after[name], digits=0.75)
        apart.index_fill_(0, torch.tensor(rows, device=apart.device), False)
        if apart.any() and comparison.repeats(role, held, name, as_it_is=True):
            row = int(apart.nonzero()[0])
            return name, row, float(term[row]), float(after[name][row])
    return None


def refuse(fault: str | None) -> None:
    """Raise what a check found.

    Raises:
        ProgramError: it found a fault.
    """
    if fault is not None:
        raise ProgramError(fault)


def _held(*traces: Trace | None) -> Trace:
    """The latents of traces, and the rows that plates chose."""
    held = Trace()
    for trace in traces:
        for name, site in trace.nodes.items() if trace is not None else ():
            if site["type"] == "sample" and (site_is_subsample(site) or not site["is_observed"]):
                held.nodes.setdefault(name, site)
    return held


def _changed_rows(site: Site) -> list[int]:
    """Half of the data: those whose number has an odd count of binary ones, so that near and far pairs are parted."""
    (B,) = (frame.size for frame in site["cond_indep_stack"] if frame.dim == -1)
    return [row for row in range(B) if row.bit_count() % 2]


def _with_other_draws(site: Site, rows: list[int]) -> Tensor:
    """A draw of which some rows become the first row's, or the next state where all have that already."""
    value, fn = site["value"], site["fn"]
    dim = value.dim() - 1 - fn.event_dim
    other = value.narrow(dim, 0, 1).expand_as(value)
    if fn.support.is_discrete and other.equal(value):
        other = next_state(fn, value) if is_enumerable(site) else value + 1
    chosen = torch.tensor(rows, dtype=torch.long, device=value.device)
    return value.index_copy(dim, chosen, other.index_select(dim, chosen).to(value))
