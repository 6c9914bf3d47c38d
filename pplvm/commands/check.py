"""`pplvm check`: one batch through a program, its sites, its parameters, and every rule that it breaks."""

import argparse
from typing import Any

from pyro.poutine import Trace

from pplvm.commands.building import build_program, check_data, run_once
from pplvm.commands.data import build_data
from pplvm.commands.default_data import after_default_data, default_data_told
from pplvm.data.batches import fixed_batch
from pplvm.particles.agreement import data_disagree, particles_disagree
from pplvm.particles.contract import sample_sites
from pplvm.particles.halves import users
from pplvm.particles.pair import pair_up
from pplvm.particles.paths import has_path
from pplvm.particles.supports import support_in_words

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; 0 if every rule is kept, 2 if not."""
    data = build_data(arguments)
    program = build_program(arguments.program, arguments.set, data, arguments.seed)
    x = fixed_batch(data, min(arguments.batch_size, len(data)), seed=arguments.seed)
    with default_data_told(arguments, arguments.program):
        model_trace, guide_trace, broken = run_once(program, data, x)
    print(f"program {arguments.program} on {len(x)} of {data.spec.name}, shape {tuple(data.spec.shape)}")
    print(f"data: {data.description(arguments.split)}\n")
    rows = [_site_row("model", site) for site in sample_sites(model_trace).values()]
    rows += [_site_row("guide", site) for site in _sites(guide_trace)]
    print(_table(("half", "site", "distribution", "batch", "event", "support", "gradient", "plates"), rows))
    print()
    named = list(program.named_parameters())
    used = users(program.model, program.guide, [p for _, p in named if p.requires_grad], x) if not broken else []
    owners = dict(zip([name for name, p in named if p.requires_grad], used, strict=False))
    print(
        _table(
            ("parameter", "shape", "used by"),
            [(name, str(tuple(p.shape)), _owner(name, p.requires_grad, owners)) for name, p in named],
        )
    )
    try:
        with default_data_told(arguments, arguments.program):
            check_data(program, data, x)
    except ValueError as error:
        broken.append(str(error))
    if not broken:
        pair = pair_up(program.model, program.guide, (x,), {})
        broken += filter(None, [particles_disagree(pair, (x,), {})])
        if (dependent := data_disagree(pair, (x,), {})) is not None:
            print(f"\nnote: objectives that credit each datum by itself refuse this program: {dependent}")
    print()
    for violation in dict.fromkeys(broken):
        print(f"violation: {after_default_data(arguments, arguments.program, violation)}")
    found = f"{len(set(broken))} violation{'s' if len(set(broken)) > 1 else ''}"
    print(found if broken else "no violations: every objective that is legal can be used")
    return 2 if broken else 0


def _sites(trace: Trace | None) -> list[Any]:
    return list(sample_sites(trace).values()) if trace is not None else []


def _owner(name: str, trained: bool, owners: dict[str, set[str]]) -> str:
    if not trained:
        return "frozen"
    if name not in owners:
        return "unknown until the program is legal"
    return " and ".join(sorted(owners[name], reverse=True)) or "neither"


def _site_row(half: str, site: Any) -> tuple[str, ...]:
    fn = site["fn"]
    inner = fn
    while hasattr(inner, "base_dist"):
        inner = inner.base_dist
    how = "observed" if site["is_observed"] else "path" if has_path(fn) else "score"
    plates = ", ".join(
        f"{frame.name}[{frame.size}]@{frame.dim}" for frame in site["cond_indep_stack"] if frame.vectorized
    )
    shapes = (str(tuple(fn.batch_shape)), str(tuple(fn.event_shape)))
    return half, site["name"], type(inner).__name__, *shapes, support_in_words(fn.support), how, plates or "none"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)
