"""What a table has measured: as rows, as markdown, and as JSON beside the machine and the versions."""

import argparse
import json
import os
import platform
import statistics
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.ceilings import Ceilings, Work

__all__ = ["Outcome", "Quartiles", "Result", "Row", "machine", "markdown", "write"]

PACKAGES = ("torch", "pyro-ppl", "numpyro", "jax", "storchastic")
Quartiles = tuple[float, float, float]


@dataclass(frozen=True)
class Outcome:
    """A target, beside what was measured."""

    of: str | None
    bound: float
    measured: Quartiles
    met: bool


@dataclass(frozen=True)
class Row:
    """One contestant: seconds a unit in each round, and their ratio to the reference's."""

    contestant: str
    agrees: str
    seconds: list[float]
    ratio: Quartiles | None
    targets: list[Outcome]


@dataclass(frozen=True)
class Result:
    """A section as measured; work is that of one unit."""

    title: str
    unit: str
    reference: str
    faster: bool
    rows: list[Row]
    left_out: dict[str, str]
    unmeasured: list[str]  # targets of or against what is left out
    work: Work | None


def markdown(result: Result, ceiling: Ceilings) -> str:
    """The table, with a line for what was left out."""
    measure = "times as fast as" if result.faster else "over"
    work = result.work
    counted = f"; {work.flop / 1e6:.1f} MFLOP, {work.bytes / 1e6:.1f} MB" if work else ""
    lines = [
        f"**{result.title}**, one {result.unit}{counted}",
        "",
        f"| contestant | agrees | ms | {measure} {result.reference} | targets | of GEMM | of copy |",
        "|---|---|---|---|---|---|---|",
    ]
    sign = ">=" if result.faster else "<="
    for row in result.rows:
        median = statistics.median(row.seconds)
        shares = [f"{100 * share:.0f} %" for share in _shares(work, median, ceiling)] if work else ["", ""]
        targets = "; ".join(_target(outcome, sign, result.reference) for outcome in row.targets)
        cells = [row.contestant, row.agrees, f"{1e3 * median:.3g}", _quartiles(row.ratio), targets, *shares]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\nLeft out: {name} ({reason})" for name, reason in result.left_out.items()]
    lines += [f"\nNot measured: {target}" for target in result.unmeasured]
    return "\n".join(lines)


def write(chosen: argparse.Namespace, found: dict[str, Any]) -> None:
    """All figures beside the machine and the versions, if a file was asked for."""
    if chosen.json is None:
        return
    head = {
        "date": date.today().isoformat(),
        "machine": machine(chosen.device),
        "device": chosen.device,
        "threads": chosen.threads,
        "rounds": chosen.rounds,
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(head | found, indent=1))


def machine(device: str) -> str:
    """The GPU's name, or the processor's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _target(outcome: Outcome, sign: str, reference: str) -> str:
    verdict = "met" if outcome.met else "**missed**"
    if outcome.of is None:
        return f"{sign} {outcome.bound:.2g} s: {verdict}"
    against = "" if outcome.of == reference else f" of {outcome.of} ({outcome.measured[1]:.2f})"
    return f"{sign} {outcome.bound:.3g}{against}: {verdict}"


def _quartiles(found: Quartiles | None) -> str:
    if found is None:
        return ""
    low, median, high = (f"{each:.{3 if found[1] < 0.1 else 2}f}" for each in found)
    return f"{median} [{low}, {high}]"


def _shares(work: Work, seconds: float, ceiling: Ceilings) -> tuple[float, float]:
    return work.flop / seconds / ceiling.flop_per_second, work.bytes / seconds / ceiling.bytes_per_second


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
