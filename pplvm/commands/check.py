"""`pplvm check`: runs one batch through a program and prints its sites, parameters and broken rules."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import TransformedDistribution

from pplvm.batch import as_tuple
from pplvm.commands.building.builders import build_program, known_to
from pplvm.commands.building.data import build_data
from pplvm.commands.building.default_data_hint import default_data_hint, with_default_data_hint
from pplvm.commands.building.program_checks import check_data, run_once
from pplvm.data.batches import fixed_batch
from pplvm.particles.contract import sample_sites
from pplvm.particles.pair import pair_up
from pplvm.particles.parameter_roles import parameter_roles
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.supports import support_in_words
from pplvm.particles.vectorization_check import why_data_interact, why_particles_interact

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; return 0 if the program keeps every rule, 2 if not."""
    data = build_data(arguments)
    program = build_program(arguments.program, arguments.set, data, arguments.seed)
    parts = as_tuple(fixed_batch(data, min(arguments.batch_size, len(data)), seed=arguments.seed))
    with default_data_hint(arguments, arguments.program):
        model_trace, guide_trace, broken = run_once(program, data, parts)
    print(f"program {arguments.program} on {len(parts[0])} of {data.spec.name}, shape {tuple(data.spec.shape)}")
    print(f"data: {data.description(arguments.split)}")
    for sentence in _reaching(known_to(arguments.program, data), data.spec.conditions, parts):
        print(sentence)
    print()
    rows = [_site_row("model", site) for site in sample_sites(model_trace).values()]
    rows += [_site_row("guide", site) for site in _sites(guide_trace)]
    print(_table(("role", "site", "distribution", "batch", "event", "support", "gradient", "plates"), rows))
    print()
    named = list(program.named_parameters())
    used = (
        parameter_roles(program.model, program.guide, [p for _, p in named if p.requires_grad], *parts)
        if not broken
        else []
    )
    owners = dict(zip([name for name, p in named if p.requires_grad], used, strict=False))
    print(
        _table(
            ("parameter", "shape", "used by"),
            [(name, str(tuple(p.shape)), _owner(name, p.requires_grad, owners)) for name, p in named],
        )
    )
    try:
        with default_data_hint(arguments, arguments.program):
            check_data(program, data, parts)
    except ValueError as error:
        broken.append(str(error))
    if not broken:
        pair = pair_up(program.model, program.guide, parts, {})
        broken += filter(None, [why_particles_interact(pair, parts, {})])
        if (dependent := why_data_interact(pair, parts, {})) is not None:
            print(f"\nnote: objectives that credit each datum by itself refuse this program: {dependent}")
    print()
    for violation in dict.fromkeys(broken):
        print(f"violation: {with_default_data_hint(arguments, arguments.program, violation)}")
    found = f"{len(set(broken))} violation{'s' if len(set(broken)) > 1 else ''}"
    print(found if broken else "no violations: every objective that is legal can be used")
    return 2 if broken else 0


def _reaching(known: Mapping[str, Any], conditions: Sequence[str], parts: Sequence[Tensor]) -> Iterator[str]:
    """Sentences on what the program is given beside x: conditions, and facts of the data."""
    for name, part in zip(conditions, parts[1:], strict=True):
        values = f", {part.min():g} to {part.max():g} in this batch" if part.dtype != torch.bool else ""
        yield f"given: {name} {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}{values}"
    told = [f"{name}={value}" for name, value in known.items() if not isinstance(value, Tensor) and name != "data_size"]
    if told:
        yield f"from the data: {', '.join(told)}"


def _sites(trace: Trace | None) -> list[Any]:
    return list(sample_sites(trace).values()) if trace is not None else []


def _owner(name: str, trained: bool, owners: dict[str, set[str]]) -> str:
    if not trained:
        return "frozen"
    if name not in owners:
        return "unknown until the program is legal"
    return " and ".join(sorted(owners[name], reverse=True)) or "neither"


def _site_row(role: str, site: Any) -> tuple[str, ...]:
    fn = site["fn"]
    inner, is_flow = fn, False
    while hasattr(inner, "base_dist"):
        inner, is_flow = inner.base_dist, is_flow or isinstance(inner, TransformedDistribution)
    called = f"flow of {type(inner).__name__}" if is_flow else type(inner).__name__
    how = "observed" if site["is_observed"] else "path" if is_reparameterized(fn) else "score"
    plates = ", ".join(
        f"{frame.name}[{frame.size}]@{frame.dim}" for frame in site["cond_indep_stack"] if frame.vectorized
    )
    shapes = (str(tuple(fn.batch_shape)), str(tuple(fn.event_shape)))
    return role, site["name"], called, *shapes, support_in_words(fn.support), how, plates or "none"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)
