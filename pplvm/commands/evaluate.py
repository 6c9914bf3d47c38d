"""`pplvm evaluate`: evaluates trained programs; writes a page, the figures as JSON and the terms of each datum."""

import argparse
import dataclasses
import json
import platform
import sys
import textwrap
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from pplvm.commands.building.builders import usable_device
from pplvm.commands.evaluation.factor_scores import factor_arrays, factors_for, scored
from pplvm.commands.evaluation.side_by_side import WRITTEN, compare_evaluations
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
from pplvm.data.factors import Factors
from pplvm.distributed.collectives import broadcast_object
from pplvm.distributed.object_collectives import errors_on_all_ranks
from pplvm.distributed.ranks import is_first, join
from pplvm.evaluation.evaluate import NO_LATENTS, evaluate
from pplvm.evaluation.evaluation import VARIABLES, Evaluation
from pplvm.evaluation.figures import aligned
from pplvm.evaluation.samples import prior_samples
from pplvm.plots.curves import save_convergence
from pplvm.plots.evaluation_page import NOT_COMPARABLE, evaluation_page
from pplvm.plots.factor_scores import save_factor_map

__all__ = ["run"]

ONE_SEED = "scores are of one seed: evaluate runs of several, which differ more than models do"
"""Locatello et al., 2019, arXiv:1811.12359."""

MOST_LATENTS = 100
"""Latents in the map of latents by factors, which would not be readable, nor a PNG, of thousands."""

SAMPLES = 64
"""Samples of the prior that a page shows."""


def run(arguments: argparse.Namespace) -> int:
    """Evaluate each run by itself, then compare them where there are several."""
    typed = None if arguments.ks is None else _ks(arguments.ks)
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
            ks = typed or _default_ks(every)
            factors = [factors_for(trained, arguments.factors, arguments.limit, arguments.every) for trained in every]
            directories = [_directory(trained, arguments) for trained in every]
        found = [_evaluate_run(*each, ks, arguments) for each in zip(every, factors, directories, strict=True)]
        with errors_on_all_ranks():
            if len(every) > 1 and is_first():
                compare_evaluations(every, found, Path(arguments.output), arguments.weights)
    return 0


def _ks(words: str) -> tuple[int, ...]:
    try:
        ks = tuple(int(word) for word in words.split(","))
    except ValueError:
        raise ValueError(f"--ks must read 1,10,100, got {words!r}") from None
    if any(a >= b for a, b in zip((0, *ks), ks, strict=False)):
        raise ValueError(f"--ks must rise from at least 1, as 1,10,100, got {words!r}")
    return ks


def _default_ks(every: list[TrainedProgram]) -> tuple[int, ...]:
    """Fewer draws for programs of codes, whose learned priors run a network for each of them."""
    of_codes = any(callable(getattr(trained.program, "proposal", None)) for trained in every)
    return (1, 10, 100) if of_codes else (1, 10, 100, 1000, 5000)


def _refuse_confusion(every: list[TrainedProgram], arguments: argparse.Namespace) -> None:
    """Refuse runs of equal names, whose results would overwrite each other, and an existing figure.

    Raises:
        ValueError: there are such.
    """
    names = [trained.directory.name for trained in every]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two runs are called {twice[0]!r}: rename one, or evaluate them one by one")
    for path in (Path(arguments.output, name) for name in WRITTEN):
        if path.is_symlink() or (path.exists() and not arguments.overwrite):
            raise ValueError(f"{path} exists: replace it by --overwrite, or name another directory with --output")


def _directory(trained: TrainedProgram, arguments: argparse.Namespace) -> Path:
    """Open the directory of one run's results: in the run, or below --output for several."""
    alone = len(arguments.run) == 1
    default = trained.directory / f"evaluation-{arguments.split}"
    path = default if arguments.output is None else Path(arguments.output, *([] if alone else [trained.directory.name]))
    return open_output(path, EVALUATION, arguments.overwrite) if is_first() else path


def _evaluate_run(
    trained: TrainedProgram,
    factors: Factors | None,
    directory: Path,
    ks: tuple[int, ...],
    arguments: argparse.Namespace,
) -> Evaluation:
    some = trained.some(arguments.limit, arguments.every)
    found = evaluate(
        trained.program,
        some,
        ks=ks,
        annealed_data=min(arguments.annealed, len(some)),
        chains=arguments.chains,
        annealing_steps=arguments.annealing_steps,
        information_data=arguments.information,
        levels=trained.data.spec.levels,
        seed=arguments.seed,
        compile=arguments.compile,
        progress=True,
    )
    with errors_on_all_ranks():
        if is_first():
            found = found if factors is None else scored(found, factors, arguments.seed)
            _write(trained, found, factors, directory, ks, arguments)
    return found


def _write(
    trained: TrainedProgram,
    found: Evaluation,
    factors: Factors | None,
    directory: Path,
    ks: tuple[int, ...],
    arguments: argparse.Namespace,
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
    files = _factor_map(found, directory, pictures.traversals) | files
    circumstances = _circumstances(trained, arguments, ks, count)
    circumstances |= {} if factors is None else {"factors": f"{factors}; {ONE_SEED}"}
    remarks = [*changed_data(trained), *comparability_caveats(trained, arguments.split, count, arguments.every)]
    x = trained.rows(arguments.limit, arguments.every)
    hint = None if NO_LATENTS in found.left_out else annealing_hint(trained.program, x, arguments)
    rows = {title: [dataclasses.asdict(figure) for figure in figures] for title, figures in found.sections.items()}
    told_first = circumstances | {NOT_COMPARABLE: "\n".join(remarks), "left out": "; ".join(left_out)}
    page = evaluation_page(told_first | ({"not asked for": hint} if hint else {}), rows, files)
    (directory / "report.html").write_text(page, encoding="utf-8")
    told = {"circumstances": circumstances, "not_comparable": remarks, "left_out": left_out, "figures": rows}
    (directory / "evaluation.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    arrays = _arrays(found, ks).assign({} if factors is None else factor_arrays(found, factors))
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


def _factor_map(found: Evaluation, directory: Path, traversals: dict[str, Path]) -> dict[str, Path]:
    """The map of latents by factors and the traversals, which stand beside scores; or none."""
    if (scores := found.disentanglement) is None:
        return {}
    telling = np.sort(np.argsort(-scores.information.max(1), kind="stable")[:MOST_LATENTS])
    names = scores.factor_names, [scores.latent_names[latent] for latent in telling]
    path = save_factor_map(scores.information[telling], scores.importances[telling], *names, directory / "factors.png")
    count = len(scores.latent_names)
    of = "each latent tells" if len(telling) == count else f"the {len(telling)} most telling of {count} latents tell"
    return {f"What {of} of each factor": path, **traversals}


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
