"""What the tables share: contestants are built, judged, and timed in turns in random order.

A contestant has a method `step()`. One that cannot be built or disagrees with the trusted one is left out, with a line
on stderr and the reason in the JSON.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch

from benchmarks.peers.agreement import Verdict
from benchmarks.peers.ceilings import Work, ceilings, count
from benchmarks.peers.results import Outcome, Quartiles, Result, Row, machine, markdown, write
from benchmarks.ratios import interleaved, ratio

__all__ = ["Section", "Target", "measure", "options", "run", "wait"]

DEVICES = "cpu", "cuda"


@dataclass(frozen=True)
class Target:
    """A contestant's time over another's, at most; or its speed over the other's, at least; of none, its seconds."""

    contestant: str
    bound: float
    of: str | None


@dataclass(frozen=True)
class Section:
    """One table: contestants of one task, the first of which is what the others are measured by.

    Arguments:
        title: of the table.
        contestants: what builds each.
        judge: of a contestant, by its name, whether it computes what it should.
        targets: what contestants are held to.
        inner: steps timed at a time.
        units: how many of what is told are in one step.
        unit: their name.
        faster: tell ratios of speed, not of time.
        counted: the contestant whose FLOPs and bytes are counted; all are set beside them.
    """

    title: str
    contestants: Mapping[str, Callable[[], Any]]
    judge: Callable[[str, Any], Verdict]
    targets: Sequence[Target] = ()
    inner: int = 10
    units: int = 1
    unit: str = "step"
    faster: bool = False
    counted: str = ""


def run(
    name: str,
    sections: Callable[[str], Iterable[Section]],
    rounds: int = 21,
    notes: Callable[[str], dict[str, str]] | None = None,
) -> None:
    """A table's script: print its sections as they are measured, then further figures, and write the JSON."""
    chosen = options(rounds)
    ceiling = ceilings(chosen.device)
    print(f"{machine(chosen.device)}, {chosen.threads} threads, {chosen.rounds} rounds; ", end="")
    print(f"products {ceiling.flop_per_second / 1e9:.0f} GFLOP/s, copies {ceiling.bytes_per_second / 1e9:.0f} GB/s")
    measured = {"table": name, "ceilings": asdict(ceiling), "sections": []}
    for section in sections(chosen.device):
        result = measure(section, chosen.rounds, chosen.device)
        print("\n" + markdown(result, ceiling), flush=True)
        measured["sections"].append(asdict(result))
        write(chosen, measured)  # what comes next may fail
        pyro.clear_param_store()
    measured["notes"] = notes(chosen.device) if notes else {}
    for line in measured["notes"].items():
        print("\n" + ": ".join(line))
    write(chosen, measured)


def options(rounds: int, threads: int = 2, devices: Sequence[str] = DEVICES) -> argparse.Namespace:
    """The command line of every table; sets the threads, and silences what peers are known to warn of."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--device", choices=devices, default="cpu")
    parser.add_argument("--json", type=Path, help="a file to write all figures to")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs some of the GPU's memory
    if chosen.threads == 1:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # read when jax is imported
    warnings.filterwarnings("ignore", message=".*torch.jit.trace.* is deprecated")  # Pyro's JitTrace_ELBO
    warnings.filterwarnings("ignore", message="Using backward")  # storchastic keeps the graph for REBAR and RELAX
    return chosen


def measure(section: Section, rounds: int, device: str = "cpu") -> Result:
    """Build, judge and time the contestants of a section."""
    built, verdicts = {}, {}
    for name, build in section.contestants.items():
        try:
            built[name] = build()
            verdicts[name] = section.judge(name, built[name])
        except Exception as error:  # a peer may fail in any way, which must not cost the others' figures
            verdicts[name] = Verdict(False, f"{type(error).__name__}: {error}".splitlines()[0])
        if not verdicts[name].agrees:
            built.pop(name, None)
            print(f"{section.title}: {name} is left out: {verdicts[name].text}", file=sys.stderr, flush=True)
    work = count(built[section.counted].step) if section.counted in built else None
    steps = {name: contestant.step for name, contestant in built.items()}
    totals = interleaved(steps, rounds, section.inner, partial(wait, device))
    seconds = {name: [s / section.inner / section.units for s in total] for name, total in totals.items()}
    return Result(
        section.title,
        section.unit,
        next(iter(section.contestants)),
        section.faster,
        [_row(section, name, verdicts[name].text, seconds) for name in built],
        left_out := {name: verdict.text for name, verdict in verdicts.items() if not verdict.agrees},
        [f"{t.contestant} over {t.of}, {t.bound:g}" for t in section.targets if {t.contestant, t.of} & {*left_out}],
        work and Work(work.flop // section.units, work.bytes // section.units),
    )


def _row(section: Section, name: str, agrees: str, seconds: dict[str, list[float]]) -> Row:
    def compared(other: str | None) -> Quartiles:
        theirs = [1.0] * len(seconds[name]) if other is None else seconds[other]
        return ratio(theirs, seconds[name]) if section.faster else ratio(seconds[name], theirs)

    outcomes = []
    for target in section.targets:
        if target.contestant == name and (target.of is None or target.of in seconds):
            found = compared(target.of)
            met = found[1] >= target.bound if section.faster else found[1] <= target.bound
            outcomes.append(Outcome(target.of, target.bound, found, met))
    reference = next(iter(section.contestants))
    return Row(name, agrees, seconds[name], compared(reference) if reference in seconds else None, outcomes)


def wait(device: str, last: Any) -> None:
    """Until what a step has started is done: torch's by its device, jax's by its array."""
    if device == "cuda":
        torch.cuda.synchronize()
    if hasattr(last, "block_until_ready"):
        last.block_until_ready()
