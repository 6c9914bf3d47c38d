"""`pplvm evaluate`: evaluates trained programs; writes a page, the figures as JSON and the terms of each datum."""

import argparse
import dataclasses
import json
import math
import platform
import sys
import textwrap
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from pplvm.commands.building.builders import usable_device
from pplvm.commands.output.annealing_hint import annealing_hint
from pplvm.commands.output.matplotlib_settings import default_style
from pplvm.commands.output.netcdf import one_draw_of, save
from pplvm.commands.output.pictures import Pictures
from pplvm.commands.runs.output_directory import EVALUATION, open_output
from pplvm.commands.runs.trained_program import (
    TrainedProgram,
    changed_data,
    comparability_caveats,
    load_trained,
    with_labels_hidden,
)
from pplvm.commands.sample_request import sample_request
from pplvm.distributed.collectives import broadcast_object
from pplvm.distributed.object_collectives import errors_on_all_ranks
from pplvm.distributed.ranks import is_first, join
from pplvm.evaluation.evaluate import NO_LATENTS, evaluate
from pplvm.evaluation.evaluation import VARIABLES, Evaluation
from pplvm.evaluation.figures import Figure, aligned
from pplvm.evaluation.samples import prior_samples
from pplvm.plots.curves import save_convergence
from pplvm.plots.evaluation_page import NOT_COMPARABLE, evaluation_page
from pplvm.plots.rate_distortion import save_rate_distortion

__all__ = ["run"]

SAMPLES = 64
"""Samples of the prior that a page shows."""

TOGETHER = "rate-distortion.png"
"""What several runs have together."""


def run(arguments: argparse.Namespace) -> int:
    """Evaluate each run by itself, then compare them where there are several."""
    ks = _ks(arguments.ks)
    if len(arguments.run) > 1 and arguments.output is None:
        arguments.output = f"runs/evaluation-{datetime.now():%Y%m%d-%H%M%S}"
    usable_device(arguments.device)
    with default_style(), join(arguments.device) as device:
        arguments.output = broadcast_object(arguments.output)
        with errors_on_all_ranks():
            every = [load_trained(directory, arguments, device) for directory in arguments.run]
            every = [with_labels_hidden(trained) for trained in every] if arguments.hide_labels else every
            if len(every) > 1:
                _refuse_confusion(every, arguments)
            directories = [_directory(trained, arguments) for trained in every]
        found = [_evaluate_run(*each, ks, arguments) for each in zip(every, directories, strict=True)]
        with errors_on_all_ranks():
            if len(every) > 1 and is_first():
                _compare(every, found, Path(arguments.output))
    return 0


def _ks(words: str) -> tuple[int, ...]:
    try:
        ks = tuple(int(word) for word in words.split(","))
    except ValueError:
        raise ValueError(f"--ks must read 1,10,100, got {words!r}") from None
    if any(a >= b for a, b in zip((0, *ks), ks, strict=False)):
        raise ValueError(f"--ks must rise from at least 1, as 1,10,100, got {words!r}")
    return ks


def _refuse_confusion(every: list[TrainedProgram], arguments: argparse.Namespace) -> None:
    """Refuse runs of equal names, whose results would overwrite each other, and an existing figure.

    Raises:
        ValueError: there are such.
    """
    names = [trained.directory.name for trained in every]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two runs are called {twice[0]!r}: rename one, or evaluate them one by one")
    path = Path(arguments.output, TOGETHER)
    if path.is_symlink() or (path.exists() and not arguments.overwrite):
        raise ValueError(f"{path} exists: replace it by --overwrite, or name another directory with --output")


def _directory(trained: TrainedProgram, arguments: argparse.Namespace) -> Path:
    """Open the directory of one run's results: in the run, or below --output for several."""
    alone = len(arguments.run) == 1
    default = trained.directory / f"evaluation-{arguments.split}"
    path = default if arguments.output is None else Path(arguments.output, *([] if alone else [trained.directory.name]))
    return open_output(path, EVALUATION, arguments.overwrite) if is_first() else path


def _evaluate_run(
    trained: TrainedProgram, directory: Path, ks: tuple[int, ...], arguments: argparse.Namespace
) -> Evaluation:
    some = trained.some(arguments.limit, arguments.every)
    found = evaluate(
        trained.program,
        some,
        ks=ks,
        annealed_data=min(arguments.annealed, len(some)),
        chains=arguments.chains,
        annealing_steps=arguments.annealing_steps,
        levels=trained.data.spec.levels,
        seed=arguments.seed,
        compile=arguments.compile,
        progress=True,
    )
    with errors_on_all_ranks():
        if is_first():
            _write(trained, found, directory, ks, arguments)
    return found


def _write(
    trained: TrainedProgram, found: Evaluation, directory: Path, ks: tuple[int, ...], arguments: argparse.Namespace
) -> None:
    pictures = Pictures(trained, directory, arguments.seed)
    asked = sample_request(trained, SAMPLES)
    pictures.draw(lambda: prior_samples(trained.program, asked.like, SAMPLES, arguments.seed), asked.classes)
    files, left_out = dict(pictures.files), [*found.left_out, *pictures.left_out]
    try:
        files = {f"{_sampled(found)[0]} against the number of draws": _convergence(found, ks, directory), **files}
    except ValueError as error:  # one k makes no curve
        left_out.append(f"convergence.png: {error}")
    count = len(trained.some(arguments.limit, arguments.every))
    circumstances = _circumstances(trained, arguments, ks, count)
    remarks = [*changed_data(trained), *comparability_caveats(trained, arguments.split, count, arguments.every)]
    x = trained.rows(arguments.limit, arguments.every)
    hint = None if NO_LATENTS in found.left_out else annealing_hint(trained.program, x, arguments)
    rows = {title: [dataclasses.asdict(figure) for figure in figures] for title, figures in found.sections.items()}
    told_first = circumstances | {NOT_COMPARABLE: "\n".join(remarks), "left out": "; ".join(left_out)}
    page = evaluation_page(told_first | ({"not asked for": hint} if hint else {}), rows, files)
    (directory / "report.html").write_text(page, encoding="utf-8")
    told = {"circumstances": circumstances, "not_comparable": remarks, "left_out": left_out, "figures": rows}
    (directory / "evaluation.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    arrays = _arrays(found, ks)
    save(directory / "evaluation.nc", arrays, one_draw_of(arrays))
    _print(trained, found, remarks, left_out)
    print(f"\n{hint}" if hint else "")
    print(f"report: {directory / 'report.html'}")


def _circumstances(
    trained: TrainedProgram, arguments: argparse.Namespace, ks: tuple[int, ...], count: int
) -> dict[str, str]:
    settings, spec = trained.settings, trained.data.spec
    return {
        "program": " ".join([settings.program, *settings.set]),
        "trained with": f"{trained.checkpoint.manifest.get('objective', settings.objective)}, seed {settings.seed}",
        "checkpoint": f"{trained.checkpoint.path}, step {trained.checkpoint.step}, {arguments.weights}",
        **({"newer checkpoints": "; ".join(trained.checkpoint.skipped)} if trained.checkpoint.skipped else {}),
        "data": f"{spec.name}, split {arguments.split}, {count:,} of {len(trained.data):,}",
        "data read": trained.data.description(arguments.split),
        "binarization": f"{spec.binarization}{f', seed {settings.seed}' if spec.binarization == 'dynamic' else ''}",
        "draws a datum": f"k = {', '.join(map(str, ks))}; seed {arguments.seed}",
        "command": "pplvm " + " ".join(sys.argv[1:]),
        "versions": ", ".join(f"{name} {version(name)}" for name in ("pplvm", "torch", "pyro-ppl"))
        + f", Python {platform.python_version()}",
    }


def _convergence(found: Evaluation, ks: tuple[int, ...], directory: Path) -> Path:
    name, log_p = _sampled(found)
    error = log_p.std(0) / len(log_p) ** 0.5 if len(log_p) > 1 else log_p[0] * 0
    exact = found.per_datum.get("log_p_exact")
    path = directory / "convergence.png"
    return save_convergence(
        ks, log_p.mean(0).tolist(), error.tolist(), path, None if exact is None else float(exact.mean()), name
    )


def _sampled(found: Evaluation) -> tuple[str, Tensor]:
    """The importance-sampled estimates at each k, (N, len(ks)), and their name."""
    names = dict(zip(VARIABLES, (found.names.log_p, "log mean weight"), strict=True))
    return next((name, found.per_datum[key]) for key, name in names.items() if key in found.per_datum)


def _arrays(found: Evaluation, ks: tuple[int, ...]) -> xr.Dataset:
    """Per-datum terms: log_p (datum, k), posterior means (datum, unit of the site), all else (datum).

    What log_p is of, data alone or given conditions, stands in its attribute `long_name`.
    """
    arrays: dict[str, Any] = {}
    for name, value in found.per_datum.items():
        dims = ["datum", "k" if name in VARIABLES else f"{name}_unit"][: value.dim()]
        told = {"long_name": found.names.log_p} if name in ("log_p", "log_p_exact") else {}
        arrays[name] = (dims, value.numpy(), told)
    return xr.Dataset(arrays, coords={"k": np.array(ks)})


def _print(trained: TrainedProgram, found: Evaluation, remarks: list[str], left_out: list[str]) -> None:
    print(f"{trained.directory}: {trained.settings.program} at step {trained.checkpoint.step}")
    print(f"\n{aligned(found.sections)}")
    for heading, sentences in (("not comparable with published figures", remarks), ("left out", left_out)):
        if sentences:
            print(f"\n{heading}")
            for sentence in sentences:
                print(textwrap.fill(sentence, 100, initial_indent="  ", subsequent_indent="    "))


def _compare(every: list[TrainedProgram], found: list[Evaluation], directory: Path) -> None:
    """Plot rate against distortion of all runs, and print their main figures side by side."""
    points, likelihoods = [], {each.names.log_p for each in found}
    differ = len(likelihoods) > 1  # which do not compare
    name = "log p" if differ else likelihoods.pop()
    width = max(12, len(name) + 2, *(len(each) + 9 for each in likelihoods))
    print(f"\n{'run':30}{name:>{width}}{'rate':>10}{'distortion':>12}{'beta':>8}")
    for trained, each in zip(every, found, strict=True):
        figures = {figure.name: figure for figure in each.sections["rate and distortion"]}
        rate, distortion = figures["rate"], figures["distortion"]
        beta = trained.settings.beta if trained.settings.beta is not None else 1.0
        best = each.per_datum.get("log_p_exact", each.per_datum.get("log_p"))  # neither where it is no bound
        shown = "-" if best is None else f"{float(best.reshape(len(best), -1)[:, -1].mean()):.2f}"
        label, on_curve = trained.directory.name, beta
        if differ:
            shown = f"{each.names.log_p} {shown}"
            label, on_curve = f"{label}, {each.names.log_p}", None
        points.append(_point(label, on_curve, rate, distortion))
        told = str(trained.directory)[-29:]
        print(f"{told:30}{shown:>{width}}{rate.value:10.2f}{distortion.value:12.2f}{beta:8g}")
    finite = [point for point in points if math.isfinite(point["rate"]) and math.isfinite(point["distortion"])]
    if len(finite) < len(points):
        unknown = ", ".join(str(point["label"]) for point in points if point not in finite)
        print(f"left out of {TOGETHER}, as rate or distortion is not finite: {unknown}")
    if finite:
        print(f"rate against distortion: {save_rate_distortion(finite, directory / TOGETHER)}")


def _point(label: str, beta: float | None, rate: Figure, distortion: Figure) -> Mapping[str, Any]:
    """A run in the rate-distortion plane; without a beta it is on no curve of betas."""
    found: dict[str, Any] = {"label": label} | ({} if beta is None else {"beta": beta})
    for figure in (rate, distortion):
        found |= {figure.name: figure.value}
        found |= {} if figure.error is None else {f"{figure.name}_error": figure.error}
    return found
