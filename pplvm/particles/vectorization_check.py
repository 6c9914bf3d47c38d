"""Checks that vectorized particles, states and data have the same densities as in separate runs.

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

from pplvm.particles.batched_run_comparison import BatchedRunComparison
from pplvm.particles.contract import ProgramError, Site, latents
from pplvm.particles.enumeration import extreme_states, is_enumerable, next_state
from pplvm.particles.faulty_layer import within_rounding
from pplvm.particles.pair import Pair

__all__ = ["raise_program_error", "why_data_interact", "why_particles_interact", "why_states_interact"]

PARTICLES = 2
"""Particles at once, the fewest that are many."""


def why_particles_interact(pair: Pair, args: tuple, kwargs: dict) -> str | None:
    """Why K > 1 particles cannot run at once; None if each has the densities that it has alone.

    Noise beside the sites is held at its mean and batch normalization at fixed statistics. Leaves no trace.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pplvm.particles.pair import pair_up
        >>> def model(x):
        ...     with pyro.plate("batch", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z - z.mean(0) if z.dim() > 1 else z, 1.0), obs=x)
        >>> x = torch.zeros(3)
        >>> print(why_particles_interact(pair_up(model, None, (x,), {}), (x,), {}).split(",")[0])
        with K > 1 particles at once
    """

    def draw() -> Trace:
        if pair.guide is None:
            return _held(pair.run_model(PARTICLES, None, args, kwargs))
        return _held(pair.run_guide(PARTICLES, args, kwargs))

    what, alone = "with K > 1 particles at once", "one by one"
    return BatchedRunComparison(what, alone, pair, PARTICLES, args, kwargs).fault(draw)


def why_states_interact(
    pair: Pair, args: tuple, kwargs: dict, num_particles: int = 1, *, of_guide: bool = False
) -> str | None:
    """Why discrete latents cannot be enumerated in parallel; None if each state has the densities it has alone.

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
    return BatchedRunComparison(what, "state by state", pair, K, args, kwargs).fault(draw)


def why_data_interact(pair: Pair, args: tuple, kwargs: dict, names: Collection[str] | None = None) -> str | None:
    """Why one datum's draws change another datum's densities, with the site to blame; None if they do not.

    Half of the batch keeps its draws while those of the others change. Leaves no trace.

    Arguments:
        names: of the latents that change; all unless given.
    """
    comparison = BatchedRunComparison("", "", pair, 1, args, kwargs)
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
    comparison: BatchedRunComparison, role: str, held: Trace, changed: Trace, rows: list[int]
) -> tuple[str, int, float, float] | None:
    """The first density of an unchanged row that moves with the draws of others: site, row, before and after."""
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


def raise_program_error(fault: str | None) -> None:
    """Raise a ProgramError with the sentence of a check, if there is one.

    Raises:
        ProgramError: it found a fault.
    """
    if fault is not None:
        raise ProgramError(fault)


def _held(*traces: Trace | None) -> Trace:
    """The latents of traces, and the rows that subsampled plates chose."""
    held = Trace()
    for trace in traces:
        for name, site in trace.nodes.items() if trace is not None else ():
            if site["type"] == "sample" and (site_is_subsample(site) or not site["is_observed"]):
                held.nodes.setdefault(name, site)
    return held


def _changed_rows(site: Site) -> list[int]:
    """Half of the rows, those of odd parity in binary, so that near and far pairs are separated."""
    (B,) = (frame.size for frame in site["cond_indep_stack"] if frame.dim == -1)
    return [row for row in range(B) if row.bit_count() % 2]


def _with_other_draws(site: Site, rows: list[int]) -> Tensor:
    """A draw with some rows replaced by the first row, or by the next state where all rows are equal."""
    value, fn = site["value"], site["fn"]
    dim = value.dim() - 1 - fn.event_dim
    other = value.narrow(dim, 0, 1).expand_as(value)
    if fn.support.is_discrete and other.equal(value):
        other = next_state(fn, value) if is_enumerable(site) else value + 1
    chosen = torch.tensor(rows, dtype=torch.long, device=value.device)
    return value.index_copy(dim, chosen, other.index_select(dim, chosen).to(value))
