"""`pplvm compare`: gradient estimators of one program on real data, in one report."""

import argparse
import itertools
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch
import xarray as xr
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from pplvm.catalog import OBJECTIVES
from pplvm.commands.building import build_data, build_loss, build_program, check_data, takes_particles
from pplvm.contract import ProgramError, latents
from pplvm.data.batches import batches, fixed_batch
from pplvm.data.image_data import ImageData
from pplvm.evaluation.gradients import Comparison
from pplvm.evaluation.sweep import ParticleSweep
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.particles import cuda_devices, pair_up
from pplvm.plots.gradients import save_figures
from pplvm.plots.report import html_report, summary
from pplvm.plots.table import text_table, write_metrics_csv
from pplvm.training.fit import fit

__all__ = ["run"]

ON_REQUEST = ("vimco-arithmetic", "renyi", "prior-sampling", "pyro-mean-field")
"""Legal, but variations or no rivals of the rest: compared only when named."""


def run(arguments: argparse.Namespace) -> int:
    """Train for a while, freeze, measure, write the run directory; 0, or 130 after Ctrl-C."""
    started = time.perf_counter()
    logging.getLogger("pyro").setLevel(logging.WARNING)  # Pyro tells of every plate that it counts
    torch.manual_seed(arguments.seed)
    data = build_data(arguments)
    program = build_program(arguments.program, arguments.set, data, arguments.seed).to(_device(arguments.device))
    minibatches = _minibatches(data, arguments)
    check_data(program, data, minibatches[0])
    pair_up(program.model, program.guide, (minibatches[0],), {})
    losses = _legal_losses(arguments, program, data, minibatches[0])
    trainer = _trainer(arguments, program, data, minibatches[0])
    sweep = _sweep(arguments, program, data, minibatches[0], list(losses))
    directory = _open_directory(arguments, list(losses), type(trainer.objective).__name__)
    try:
        _train(arguments, trainer, data, minibatches[0])
    except BaseException:
        _close_empty(directory)
        raise
    comparison = Comparison(
        losses, minibatches, replicates=arguments.replicates, seed=arguments.seed, kept=arguments.kept
    )
    interrupted = False
    try:
        for _ in _shown("replicates", comparison.rounds(), comparison.number_of_rounds):
            pass
        for _ in _shown("particles", sweep.rounds(), sweep.number_of_rounds):
            pass
    except KeyboardInterrupt:
        if not comparison.has_result:
            _close_empty(directory)
            raise
        interrupted = True
        print("\ninterrupted: writing what is finished", file=sys.stderr)
    result = xr.merge([comparison.result(), sweep.result()], join="left", combine_attrs="override")
    result.attrs.update(_circumstances(arguments, data, time.perf_counter() - started))
    _write(result, directory)
    print(text_table(result))
    print("\n".join(summary(result)))
    print(f"report: {directory / 'report.html'}")
    return 130 if interrupted else 0


def _device(name: str) -> torch.device:
    """Raises ValueError where there is no such device."""
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error


def _minibatches(data: ImageData, arguments: argparse.Namespace) -> list[Tensor]:
    size = min(arguments.batch_size, len(data))
    available = max(1, len(data) // size)
    return [
        fixed_batch(data, size, seed=arguments.seed, number=number).to(arguments.device)
        for number in range(min(arguments.minibatches, available))
    ]


def _legal_losses(arguments: argparse.Namespace, program: nn.Module, data: ImageData, x: Tensor) -> dict[str, Loss]:
    """The estimators asked for; without a wish, all of the catalog that are legal for the program.

    Raises:
        ValueError: an estimator that was asked for is not legal, or none is left.
    """
    named = arguments.estimators.split(",") if arguments.estimators else None
    found: dict[str, Loss] = {}
    for name in named or [name for name in OBJECTIVES if name not in ON_REQUEST]:
        try:
            loss = build_loss(name, arguments.particles, program, data).to(x.device)
            if named is None and _only_repeats(loss, program, x):
                continue
            with torch.random.fork_rng(cuda_devices((x,))):
                loss(x)
            found[name] = loss
        except (ObjectiveError, ProgramError) as error:
            if named is not None:
                raise ValueError(f"objective {name}: {error}") from error
    if not found:
        raise ValueError("no estimator of the catalog is legal for this program; name one with --estimators")
    return found


def _only_repeats(loss: Loss, program: nn.Module, x: Tensor) -> bool:
    """Score-function rules on a guide whose sites all have paths are pathwise gradients again."""
    if not isinstance(loss.objective, ScoreFunction | LeaveOneOut | LocalExpectation):
        return False
    trace = pair_up(program.model, program.guide, (x,), {}).run_guide(1, (x,), {})
    return all(site["fn"].has_rsample for site in latents(trace).values())


def _open_directory(arguments: argparse.Namespace, estimators: list[str], objective: str) -> Path:
    """Make the run directory and write the configuration, before anything is computed.

    Raises:
        ValueError: it exists and --overwrite is not given. OSError: it cannot be written.
    """
    default = f"runs/compare-{datetime.now():%Y%m%d-%H%M%S}"
    directory = Path(arguments.output or default)
    if directory.exists() and not arguments.overwrite:
        raise ValueError(f"{directory} exists: name another with --output, or allow --overwrite")
    directory.mkdir(parents=True, exist_ok=True)
    unsaid = ("command", "debug", "overwrite", "handler", "version")
    settings = {k: v for k, v in vars(arguments).items() if k not in unsaid}
    settings |= {"output": str(directory), "estimators": ",".join(estimators), "trained_with": objective}
    settings["versions"] = {name: version(name) for name in ("pplvm", "torch", "pyro-ppl", "numpy", "xarray", "arviz")}
    (directory / "config.yaml").write_text(yaml.safe_dump({"command": "compare", **settings}, sort_keys=False))
    return directory


def _close_empty(directory: Path) -> None:
    """Take back a run directory in which nothing but the configuration stands."""
    (directory / "config.yaml").unlink(missing_ok=True)
    if not any(directory.iterdir()):
        directory.rmdir()


def _train(arguments: argparse.Namespace, loss: Loss, data: ImageData, x: Tensor) -> None:
    optimizer = torch.optim.Adam(loss.parameters(), lr=arguments.learning_rate, fused=True)
    epochs = (
        batches(data, len(x), seed=arguments.seed, epoch=epoch, drop_last=True, device=x.device)
        for epoch in itertools.count()
    )
    steps = fit(loss, itertools.islice(itertools.chain.from_iterable(epochs), arguments.steps), optimizer)
    for _ in _shown("training", steps, arguments.steps):
        pass


def _trainer(arguments: argparse.Namespace, program: nn.Module, data: ImageData, x: Tensor) -> Loss:
    """The objective named by --objective, else the pathwise elbo where it is legal, else leave-one-out."""
    names = [arguments.objective] if arguments.objective else ["pathwise", "rloo"]
    for name in names:
        loss = build_loss(name, arguments.particles if name == "rloo" else None, program, data).to(x.device)
        try:
            loss(x)
            return loss
        except ObjectiveError as error:
            if name == names[-1]:
                raise ValueError(f"objective {name}: {error}") from error
    raise AssertionError("unreachable: the last name returns or raises")


def _sweep(
    arguments: argparse.Namespace, program: nn.Module, data: ImageData, x: Tensor, names: list[str]
) -> ParticleSweep:
    """The estimators that have particles, at every K of --sweep at which they are defined."""
    losses: dict[str, dict[int, Loss]] = {name: {} for name in names}
    swept = [name for name in names if not name.startswith("pyro-") and takes_particles(name)]
    for name, K in itertools.product(swept, _sweep_particles(arguments.sweep)):
        try:
            losses[name][K] = build_loss(name, K, program, data).to(x.device)
        except ObjectiveError:
            continue  # leave-one-out at K = 1
    return ParticleSweep(losses, x, replicates=arguments.sweep_replicates, seed=arguments.seed)


def _sweep_particles(text: str) -> list[int]:
    """`K=1,2,4` as [1, 2, 4]; an empty text means no sweep.

    Raises:
        ValueError: it reads otherwise.
    """
    try:
        name, _, values = text.partition("=")
        found = sorted({int(value) for value in values.split(",")}) if text else []
        if text and (name != "K" or min(found) < 1):
            raise ValueError
    except ValueError:
        raise ValueError(f"--sweep must read K=1,2,4 with numbers of at least 1, got {text!r}") from None
    return found


def _shown(what: str, rounds: Iterable[object], total: int) -> Iterator[object]:
    return iter(tqdm(rounds, desc=what, total=total, file=sys.stderr, leave=False, mininterval=0.3))


def _circumstances(arguments: argparse.Namespace, data: ImageData, seconds: float) -> dict[str, str | float | int]:
    return {
        "program": arguments.program,
        "data": f"{data.spec.name}, {arguments.split}, binarization: {data.spec.binarization}",
        "steps": arguments.steps,
        "command": "pplvm " + " ".join(sys.argv[1:]),
        "elapsed_seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {arguments.device}",
        "arviz_version": version("arviz"),
    }


def _write(result: xr.Dataset, directory: Path) -> None:
    """Small files first, then the arrays: HDF5 would end the process on a full disk, a copy only fails."""
    write_metrics_csv(result, directory / "metrics.csv")
    figures = save_figures(result, directory)
    (directory / "report.html").write_text(html_report(result, figures), encoding="utf-8")
    compressed = {name: {"zlib": True} for name in result if result[name].dtype.kind == "f"}
    with tempfile.TemporaryDirectory() as scratch:
        result.to_netcdf(Path(scratch) / "gradients.nc", engine="h5netcdf", encoding=compressed)
        shutil.copyfile(Path(scratch) / "gradients.nc", directory / "gradients.nc")
