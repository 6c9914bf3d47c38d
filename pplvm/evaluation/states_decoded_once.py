"""Exact log p(x) of many data at once: each joint state of discrete latents is decoded once, whatever the data.

    log p(x) = log sum_s p(s) p(x | s),     s over the joint states

A program whose decoder reads no data has the same p(x | s) for all of them: S states and N data then take S runs of the
decoder and S N densities, instead of S N of both. Data are scored in blocks of one size, so that a datum's figure does
not depend on its company.
"""

from collections.abc import Callable, Iterator
from math import prod

import torch
from pyro.poutine import Trace
from pyro.poutine import replay as replayed
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from pplvm.particles.contract import ProgramError, Site, coordinates, latents, sample_sites
from pplvm.particles.enumeration import support
from pplvm.particles.flows import log_density
from pplvm.particles.masks import is_masked
from pplvm.particles.pair import Pair
from pplvm.particles.vectorization_check import raise_program_error, why_particles_interact

__all__ = ["MOST_STATES", "log_p_of_all"]

MOST_STATES = 2**20
"""Joint states that are decoded, a minute of a small decoder on a CPU."""

MOST_DECODED = 2**20
"""States that are decoded for all sets of equal conditions together."""

MOST_NUMBERS = 2**24
"""In a table of densities of coordinates, 64 MB in float32."""

MOST_WORK = 2**38
"""Densities of coordinates one by one, some five minutes on a CPU; products of matrices take 2^6 times as many."""

STATES, DATA = 2**10, 64
"""In a block. Multiples of any vector register, so that no datum is a remainder in one block and none in another."""

Report = Callable[[int, int], None]


def log_p_of_all(pair: Pair, parts: tuple[Tensor, ...], count: int, report: Report) -> Tensor | None:
    """Log p(x) or log p(x | y) of data (N,), float64; None where the decoder reads more than conditions and latents.

    Arguments:
        pair: as `evaluation_mode` yields it.
        parts: the data (N, ...), with their conditions if they have any; each set of equal conditions is decoded for.
        count: joint states of the latents, as `latent_states` counts them.
        report: is told how many states are done, and of how many.

    Raises:
        ProgramError: the program mixes states that run at once, or so many densities would take too long.
    """
    first = tuple(part[:1] for part in parts)
    drawn = pair.run_guide(1, first, {})
    sites = latents(pair.run_model(1, drawn, first, {}))
    if pair.nesting > 1 or any(map(is_masked, sites.values())) or sites.keys() != latents(drawn).keys():
        return None
    groups = _same_conditions(parts)
    if len(groups) * count > MOST_DECODED or _reads_data(pair, parts, drawn, sites):
        return None
    raise_program_error(why_particles_interact(pair, first, {}))
    found = torch.full((len(parts[0]),), -torch.inf, dtype=torch.float64)
    done, total = 0, count * len(groups)
    for rows in groups:
        some = tuple(part[rows.to(part.device)] for part in parts)
        values = _observed_values(pair, some)
        for start in range(0, count, STATES):
            states = torch.arange(start, min(start + STATES, count))
            trace = _with_states(drawn, sites, states)
            model = pair.run(replayed(pair.model, trace=trace), len(states), tuple(part[:1] for part in some), {})
            if start == 0:
                _require_little_work(model, values, count)
            found[rows] = torch.logaddexp(found[rows], _summed(model, values)[: len(rows)])
            done += len(states)
            report(done, total)
    return found


def _same_conditions(parts: tuple[Tensor, ...]) -> list[Tensor]:
    """The numbers of the data of each set of equal conditions."""
    if len(parts) == 1:
        return [torch.arange(len(parts[0]))]
    told = torch.cat([part.reshape(len(part), -1).double().cpu() for part in parts[1:]], 1)
    _, which = told.unique(dim=0, return_inverse=True)
    return [(which == group).nonzero().flatten() for group in range(int(which.max()) + 1)]


def _reads_data(pair: Pair, parts: tuple[Tensor, ...], drawn: Trace, sites: dict[str, Site]) -> bool:
    """Whether the model's densities of one value change with the data that it is called with."""
    here = tuple(part[:1] for part in parts)
    there = (torch.where(here[0] == 0, torch.ones_like(here[0]), torch.zeros_like(here[0])), *here[1:])
    trace = _with_states(drawn, sites, torch.arange(2))
    models = [pair.run(replayed(pair.model, trace=trace), 2, rows, {}) for rows in (here, there)]
    own, other = (sample_sites(model) for model in models)
    for name, site in own.items():
        moved = dict(other[name], value=site["value"]) if name in other else None
        if moved is None or not torch.equal(log_density(site), log_density(moved)):
            return True
    return False


def _observed_values(pair: Pair, parts: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The values of the observed sites, each (N, *event)."""
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(parts[0]), STATES):
        rows = tuple(part[start : start + STATES] for part in parts)
        model = pair.run_model(1, pair.run_guide(1, rows, {}), rows, {})
        for name, site in sample_sites(model).items():
            if site["is_observed"]:
                found.setdefault(name, []).append(site["value"])
    return {name: torch.cat(values) for name, values in found.items()}


def _with_states(drawn: Trace, sites: dict[str, Site], numbers: Tensor) -> Trace:
    """The trace whose latents hold the joint states of these numbers, (S, 1, *event) each."""
    found = drawn.copy()
    for name, site in sites.items():
        values = support(site["fn"]).to(site["value"].device)
        own = values.dim() - 1
        grid = site["fn"].event_shape[: len(site["fn"].event_shape) - own]
        digits = []
        for _ in range(prod(grid)):
            digits.append(numbers % len(values))
            numbers = numbers // len(values)
        index = torch.stack(digits, 1).reshape(-1, 1, *grid) if digits else torch.zeros(len(numbers), 1).long()
        found.nodes[name] = dict(drawn.nodes[name], value=values[index.to(values.device)])
    return found


def _summed(model: Trace, values: dict[str, Tensor]) -> Tensor:
    """Log sum_s p(s, x) of the states of a trace and each datum, filled up to whole blocks."""
    sites = sample_sites(model)
    log_p_states = torch.stack([log_density(site).double() for name, site in sites.items() if name not in values]).sum(
        0
    )
    found = []
    for blocks in zip(*(_blocks(value) for value in values.values()), strict=True):
        terms = [_scores(sites[name]["fn"], block).double() for name, block in zip(values, blocks, strict=True)]
        found.append((log_p_states + torch.stack(terms).sum(0)).logsumexp(0).cpu())
    return torch.cat(found)


def _blocks(values: Tensor) -> Iterator[Tensor]:
    """The data, `DATA` at a time; the last of them repeated to fill a block."""
    for start in range(0, len(values), DATA):
        block = values[start : start + DATA]
        yield torch.cat([block, block[-1:].expand(DATA - len(block), *block.shape[1:])])


def _scores(fn: Distribution, block: Tensor) -> Tensor:
    """Log p(x | s) of each state s and datum x of a block, (S, DATA)."""
    if (logits := _bernoulli_logits(fn)) is not None:
        x = block.flatten(1).to(logits.dtype)
        return logits @ x.T - torch.nn.functional.softplus(logits).sum(1, keepdim=True)
    at_once = fn.batch_shape[0] * block.numel() <= MOST_NUMBERS
    return torch.cat([fn.log_prob(part) for part in ([block] if at_once else block.split(1))], 1)


def _bernoulli_logits(fn: Distribution) -> Tensor | None:
    """The logits (S, D) of independent Bernoulli coordinates; None of another distribution."""
    single = coordinates(fn)
    if not isinstance(single, Bernoulli) or not isinstance(fn, Independent):
        return None
    return fn.base_dist.logits.reshape(fn.batch_shape[0], -1) if fn.base_dist is single else None


def _require_little_work(model: Trace, values: dict[str, Tensor], count: int) -> None:
    for name, value in values.items():
        work, most = count * value.numel(), MOST_WORK
        most *= 2**6 if _bernoulli_logits(model.nodes[name]["fn"]) is not None else 1
        if work > most:
            raise ProgramError(
                f"{count:,} joint states of {len(value):,} data take {work:.0e} densities at site {name!r}, more than "
                f"{most:.0e}: evaluate fewer data (--limit)"
            )
