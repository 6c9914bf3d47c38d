"""`pplvm compare`: compares gradient estimators on real data at one or several checkpoints, in one report."""

import argparse
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from pplvm.commands.building.builders import usable_device
from pplvm.commands.building.data import build_data
from pplvm.commands.comparison.compare_checkpoints import checkpoint_name, checkpoint_steps, each_checkpoint
from pplvm.commands.comparison.compare_estimators import sweep_particles
from pplvm.commands.comparison.compare_subjects import Subject, subjects_of
from pplvm.commands.comparison.comparison_files import close_empty, open_directory, write
from pplvm.commands.comparison.forecast import forecast_sentence
from pplvm.commands.comparison.interrupted_sections import mark_interrupted
from pplvm.commands.comparison.print_comparison import print_comparison
from pplvm.commands.comparison.synchronized_rounds import Rounds
from pplvm.commands.output.matplotlib_settings import default_style
from pplvm.commands.output.status_output import print_status
from pplvm.data.image_data import ImageData
from pplvm.distributed.data_parallel import require_equal
from pplvm.distributed.object_collectives import error_message, errors_on_all_ranks
from pplvm.distributed.ranks import is_first, join, size
from pplvm.estimators.comparison import Comparison
from pplvm.estimators.particle_sweep import ParticleSweep
from pplvm.estimators.replicates.sampling import Sampling
from pplvm.estimators.results.effective_sample_size import effective_replicates
from pplvm.evaluation.likelihood_names import likelihood_names
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.proper_weighting import figure_name, why_improperly_weighted
from pplvm.evaluation.weight_diagnostics import weight_health

__all__ = ["run"]

WEIGHT_DRAWS = 1000
"""Draws a datum for the health of the weights, enough to fit their tail."""

POINTS = {"independent": 1, "antithetic": 2, "sobol": 8}
"""Draws that a replicate is the mean of, unless --points says otherwise."""

ALIKE = "each trains by itself from one seed, so give all the same threads and machines, and deterministic programs"
"""What keeps processes together."""


def run(arguments: argparse.Namespace) -> int:
    """Train, measure at each checkpoint and write the run directory; return 0, or 130 after Ctrl-C.

    Several processes train alike and share out the replicates; the first of them writes and speaks.
    """
    logging.getLogger("pyro").setLevel(logging.WARNING)  # Pyro tells of every plate that it counts
    usable_device(arguments.device)
    with default_style(), join(arguments.device) as device, Rounds() as rounds:
        return _run(arguments, device, rounds)


def _run(arguments: argparse.Namespace, device: torch.device, rounds: Rounds) -> int:
    started = time.perf_counter()
    with errors_on_all_ranks():
        data = build_data(arguments)
        subjects = subjects_of(arguments, data, device)
    _agree(subjects)
    with errors_on_all_ranks():
        directory = open_directory(arguments, _settings(arguments, subjects)) if is_first() else None
    print_status(f"data: {data.description(arguments.split)}")
    sections: list[xr.Dataset] = []
    failure = None
    try:
        for subject in subjects:
            _measure(arguments, subject, data, sections, started, rounds)
    except (KeyboardInterrupt, Exception) as error:
        if directory is not None:
            _stop(error, sections, directory)
        if not sections:
            raise
        failure = error
        sections = mark_interrupted(sections, _planned(arguments, subjects), error)
    with errors_on_all_ranks():
        if directory is not None:
            write(sections, directory)
            print_comparison(sections)
            print(f"report: {directory / 'report.html'}")
    if failure is not None and not _by_hand(failure):
        raise failure
    return 130 if failure is not None else 0


def _planned(arguments: argparse.Namespace, subjects: list[Subject]) -> list[tuple[str, str]]:
    """Program and checkpoint of every section of the report that was asked for."""
    steps = [checkpoint_name(stop) for stop in checkpoint_steps(arguments)]
    return [(subject.name, checkpoint) for subject in subjects for checkpoint in (*steps, *subject.files)]


def _stop(error: BaseException, sections: list[xr.Dataset], directory: Path) -> None:
    if not sections:
        close_empty(directory)
    else:
        print(f"\n{'interrupted' if _by_hand(error) else 'failed'}: writing what is finished", file=sys.stderr)


def _by_hand(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt)


def _agree(subjects: list[Subject]) -> None:
    """Keep the estimators that all ranks keep, and print which are left out."""
    for subject in subjects:
        subject.choice.agree()
    for sentence in dict.fromkeys(sentence for subject in subjects for sentence in subject.choice.left_out):
        _tell(sentence)


def _tell(sentence: str) -> None:
    print_status(f"pplvm compare: {sentence}")


def _settings(arguments: argparse.Namespace, subjects: list[Subject]) -> dict[str, Any]:
    """The settings that the comparison has resolved; lists of one element as that element."""
    steps = checkpoint_steps(arguments)
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
    arguments: argparse.Namespace,
    subject: Subject,
    data: ImageData,
    sections: list[xr.Dataset],
    started: float,
    rounds: Rounds,
) -> None:
    """Measure one section for each checkpoint; after Ctrl-C the last one is partial, if it has a result by then."""
    first = subject.minibatches[0]
    device = first[0].device
    for checkpoint, steps in each_checkpoint(arguments, subject.trained, subject.data, first, subject.files, rounds):
        require_equal(subject.trained, f"{subject.name}, {checkpoint}", ALIKE)
        torch.manual_seed(arguments.seed)
        comparison = Comparison(
            subject.choice.losses(device),
            subject.minibatches,
            replicates=arguments.replicates,
            reference_draws=arguments.reference_draws,
            kept=arguments.kept,
            sampling=_sampling(arguments),
            tell=_tell,
        )
        swept = subject.choice.swept(sweep_particles(arguments.sweep), device)
        sweep = ParticleSweep(swept, first, replicates=arguments.sweep_replicates, seed=arguments.seed)
        try:
            _draw(arguments, comparison, sweep, rounds)
        finally:
            if comparison.has_result:
                section = _section(arguments, subject, comparison, sweep)
                known = {"checkpoint": checkpoint} | ({} if steps is None else {"steps": steps})
                seconds = round(time.perf_counter() - started, 1)
                sections.append(section.assign_attrs(_circumstances(arguments, subject, data, seconds), **known))


def _sampling(arguments: argparse.Namespace) -> Sampling:
    return Sampling.of(
        seed=arguments.seed,
        own_noise=arguments.own_noise,
        noise=arguments.noise,
        points=arguments.points or POINTS[arguments.noise],
        compile=arguments.compile,
    )


def _draw(arguments: argparse.Namespace, comparison: Comparison, sweep: ParticleSweep, rounds: Rounds) -> None:
    """Draw all replicates with progress bars; the duration is forecast once each estimator was drawn once."""
    for what, steps, total in comparison.phases():
        if what == "reference draws" and is_first():
            sentence = forecast_sentence(comparison.forecast, sweep.losses, arguments.sweep_replicates)
            _tell(sentence) if sentence else None
        for _ in rounds.shown(what, steps, total):
            pass
    sweep.keep(comparison.losses)
    for _ in rounds.shown("particles", sweep.rounds(), sweep.number_of_rounds):
        pass


def _section(
    arguments: argparse.Namespace, subject: Subject, comparison: Comparison, sweep: ParticleSweep
) -> xr.Dataset:
    """The results at one checkpoint, with diagnostics of the importance weights and the replicates."""
    measured = comparison.result()
    weights, unknown = _weights(arguments, subject)
    measured["effective_replicates"] = effective_replicates(measured)
    measured["target"] = ("estimator", _named(subject, measured["target"].values))
    measured["note"] = ("estimator", [subject.choice.notes.get(n, "") for n in measured["estimator"].values])
    left_out = [*subject.choice.left_out, *comparison.left_out, *sweep.left_out, *unknown]
    found = xr.merge([measured, sweep.result(), weights], join="left", combine_attrs="override")
    unfinished = [line for line in (measured.attrs["unfinished"], sweep.unfinished) if line]
    return found.assign_attrs(left_out="\n".join(left_out), unfinished="\n".join(unfinished))


def _named(subject: Subject, targets: Iterable[str]) -> list[str]:
    """Targets by what the program makes of them: a log p(x) may be given labels, be of labels too, or be none."""
    every = tuple(torch.cat(parts) for parts in zip(*subject.minibatches, strict=True))
    with evaluation_mode(subject.program, every) as pair:
        fault = why_improperly_weighted(pair, subject.minibatches[0])
        log_p = likelihood_names(pair, every, subject.data.spec.conditions).log_p
    return [figure_name(name.replace("log p(x)", log_p), fault) for name in targets]


def _weights(arguments: argparse.Namespace, subject: Subject) -> tuple[xr.Dataset, list[str]]:
    """Diagnostics of the importance weights, or nothing and the reason."""
    try:
        return weight_health(subject.program, subject.minibatches, WEIGHT_DRAWS, arguments.seed), []
    except Exception as error:  # of a program that can be run with a few particles and not with many
        return xr.Dataset(), [f"nothing is said of the importance weights: {error_message(error)}"]


def _circumstances(
    arguments: argparse.Namespace, subject: Subject, data: ImageData, seconds: float
) -> dict[str, str | float | int]:
    return {
        "program": subject.name,
        "data": f"{data.spec.name}, {arguments.split}, binarization: {data.spec.binarization}",
        "data_read": data.description(arguments.split),
        "command": "pplvm " + " ".join(sys.argv[1:]),
        "elapsed_seconds": seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {arguments.device}"
        + (f", {size()} processes" if size() > 1 else ""),
        "arviz_version": version("arviz"),
    } | ({} if arguments.budget is None else {"budget": arguments.budget})
