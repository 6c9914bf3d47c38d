"""`pplvm compare`: gradient estimators of programs on real data, at one checkpoint or several, in one report."""

import argparse
import logging
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from pplvm.commands.building import build_data, build_program, check_data, usable_device
from pplvm.commands.checkpoints import freezes, load_checkpoint, misfit, shown, stops, trainer
from pplvm.commands.estimators import Choice, choose_estimators, sweep_particles
from pplvm.commands.run_directory import close_empty, open_directory, write
from pplvm.data.batches import fixed_batch
from pplvm.data.image_data import ImageData
from pplvm.evaluation.gradients import Comparison
from pplvm.evaluation.repeats import effective_replicates
from pplvm.evaluation.sweep import ParticleSweep
from pplvm.evaluation.weights import weight_health
from pplvm.objectives.objective import Loss
from pplvm.particles import pair_up
from pplvm.plots.overview import title
from pplvm.plots.summary import summary
from pplvm.plots.table import text_table

__all__ = ["run"]

WEIGHT_DRAWS = 1000
"""Draws a datum for the health of the weights, enough to fit their tail."""


@dataclass(frozen=True)
class Subject:
    """A program, and what is to be measured of it."""

    name: str
    minibatches: list[Tensor]
    choice: Choice
    trained: Loss
    files: dict[str, dict[str, Tensor]]  # checkpoints that fit it

    @property
    def program(self) -> nn.Module:
        return self.trained.program


def run(arguments: argparse.Namespace) -> int:
    """Train for a while, freeze, measure, write the run directory; 0, or 130 after Ctrl-C."""
    logging.getLogger("pyro").setLevel(logging.WARNING)  # Pyro tells of every plate that it counts
    started = time.perf_counter()
    data = build_data(arguments)
    subjects = _subjects(arguments, data)
    directory = open_directory(arguments, _settings(arguments, subjects))
    sections: list[xr.Dataset] = []
    failure = None
    try:
        for subject in subjects:
            _measure(arguments, subject, data, sections, started)
    except (KeyboardInterrupt, Exception) as error:
        if not sections:
            close_empty(directory)
            raise
        failure = error
        print(f"\n{'interrupted' if _by_hand(error) else 'failed'}: writing what is finished", file=sys.stderr)
    write(sections, directory)
    _print(sections)
    print(f"report: {directory / 'report.html'}")
    if failure is not None and not _by_hand(failure):
        raise failure
    return 130 if failure is not None else 0


def _by_hand(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt)


def _subjects(arguments: argparse.Namespace, data: ImageData) -> list[Subject]:
    """Everything that can be refused is refused here, before anything is computed.

    Raises:
        ValueError, LookupError, OSError: bad input.
    """
    for option, words in (("program", arguments.program), ("checkpoint", arguments.checkpoint)):
        if twice := [word for word in words if words.count(word) > 1]:
            raise ValueError(f"--{option} {twice[0]} is given twice")
    stops(arguments)
    sweep_particles(arguments.sweep)
    files = {path: load_checkpoint(path) for path in arguments.checkpoint}
    subjects = [_subject(arguments, name, data, files) for name in arguments.program]
    for path, state in files.items():
        if not any(path in subject.files for subject in subjects):
            raise ValueError(
                f"--checkpoint {path} does not fit {subjects[0].name}: {misfit(state, subjects[0].program)}"
            )
    for sentence in dict.fromkeys(s for subject in subjects for s in subject.choice.left_out):
        print(f"pplvm compare: {sentence}", file=sys.stderr)
    return subjects


def _subject(arguments: argparse.Namespace, name: str, data: ImageData, files: dict[str, dict[str, Tensor]]) -> Subject:
    program = build_program(name, arguments.set, data, arguments.seed).to(usable_device(arguments.device))
    minibatches = _minibatches(data, arguments)
    check_data(program, data, minibatches[0])
    pair_up(program.model, program.guide, (minibatches[0],), {})
    choice = choose_estimators(arguments, program, data, minibatches[0])
    trained = trainer(arguments, program, data, minibatches[0])
    fitting = {path: state for path, state in files.items() if misfit(state, program) is None}
    return Subject(name, minibatches, choice, trained, fitting)


def _minibatches(data: ImageData, arguments: argparse.Namespace) -> list[Tensor]:
    size = min(arguments.batch_size, len(data))
    available = max(1, len(data) // size)
    return [
        fixed_batch(data, size, seed=arguments.seed, number=number).to(arguments.device)
        for number in range(min(arguments.minibatches, available))
    ]


def _settings(arguments: argparse.Namespace, subjects: list[Subject]) -> dict[str, Any]:
    """What the run made of its arguments; lists of one are written as that one."""
    steps = stops(arguments)
    names = dict.fromkeys(name for subject in subjects for name in subject.choice.particles)
    objectives = [type(subject.trained.objective).__name__ for subject in subjects]
    return {
        "program": _one_or_all(arguments.program),
        "steps": _one_or_all(steps),
        "particles": None if arguments.budget is not None else arguments.particles,
        "estimators": ",".join(names),
        "trained_with": _one_or_all(objectives),
    }


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _measure(
    arguments: argparse.Namespace, subject: Subject, data: ImageData, sections: list[xr.Dataset], started: float
) -> None:
    """One section for each checkpoint, the last of them cut short by Ctrl-C if it has a result by then."""
    x = subject.minibatches[0]
    for checkpoint, steps in freezes(arguments, subject.trained, data, x, subject.files):
        torch.manual_seed(arguments.seed)
        comparison = Comparison(
            subject.choice.losses(x.device),
            subject.minibatches,
            replicates=arguments.replicates,
            seed=arguments.seed,
            kept=arguments.kept,
        )
        swept = subject.choice.swept(sweep_particles(arguments.sweep), x.device)
        sweep = ParticleSweep(swept, x, replicates=arguments.sweep_replicates, seed=arguments.seed)
        try:
            for _ in shown("replicates", comparison.rounds(), comparison.number_of_rounds):
                pass
            for _ in shown("particles", sweep.rounds(), sweep.number_of_rounds):
                pass
        finally:
            if comparison.has_result:
                section = _section(arguments, subject, comparison, sweep)
                known = {"checkpoint": checkpoint} | ({} if steps is None else {"steps": steps})
                seconds = round(time.perf_counter() - started, 1)
                sections.append(section.assign_attrs(_circumstances(arguments, subject, data, seconds), **known))


def _section(
    arguments: argparse.Namespace, subject: Subject, comparison: Comparison, sweep: ParticleSweep
) -> xr.Dataset:
    """What was measured, with the health of the weights and of the replicates."""
    measured = comparison.result()
    weights = weight_health(subject.program, subject.minibatches, WEIGHT_DRAWS, arguments.seed)
    measured["effective_replicates"] = effective_replicates(measured)
    measured["note"] = ("estimator", [subject.choice.notes.get(n, "") for n in measured["estimator"].values])
    return xr.merge([measured, sweep.result(), weights], join="left", combine_attrs="override")


def _circumstances(
    arguments: argparse.Namespace, subject: Subject, data: ImageData, seconds: float
) -> dict[str, str | float | int]:
    return {
        "program": subject.name,
        "data": f"{data.spec.name}, {arguments.split}, binarization: {data.spec.binarization}",
        "left_out": "\n".join(subject.choice.left_out),
        "command": "pplvm " + " ".join(sys.argv[1:]),
        "elapsed_seconds": seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {arguments.device}",
        "arviz_version": version("arviz"),
    } | ({} if arguments.budget is None else {"budget": arguments.budget})


def _print(sections: list[xr.Dataset]) -> None:
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    for section in sections:
        if len(sections) > 1:
            print(f"{title(section)}\n{'=' * len(title(section))}")
        print(text_table(section, width))
        print("\n".join(summary(section)), end="\n\n" if len(sections) > 1 else "\n")
