"""A trained program loaded from a run: its settings, weights, program, and data of any split."""

import argparse
import copy
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pplvm.batch import Batch, to_device, without_conditions
from pplvm.commands.building.builders import build_program
from pplvm.commands.building.data import build_data
from pplvm.commands.building.program_checks import check_data
from pplvm.commands.options.build_parser import build_parser
from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.config import as_argv, run_of, settings_of, trusted_config
from pplvm.commands.runs.manifest import data_checksum, run_of_manifest
from pplvm.commands.runs.program_weights import mismatch, without_wrapper_prefixes
from pplvm.data.conditions import NOT_KNOWN
from pplvm.data.image_data import ImageData
from pplvm.data.spec import DataSpec
from pplvm.distributed.object_collectives import error_message
from pplvm.evaluation.evidence import has_discrete_data
from pplvm.evaluation.likelihood_names import likelihood_names
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.particles.pair import inspect_pair
from pplvm.training.checkpoints import Checkpoint, read_best, read_latest

__all__ = ["TrainedProgram", "changed_data", "comparability_caveats", "load_trained", "with_labels_hidden"]


@dataclass(frozen=True)
class SomeData:
    """Some data of a split with their conditions, on the device, as a data set for evaluation."""

    data: ImageData
    numbers: Tensor  # (N,), of the data in their split
    device: torch.device

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def spec(self) -> DataSpec:
        return self.data.spec

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """The data of an index (n,), (x,) or (x, y, ...)."""
        return to_device(self.data.batch(self.numbers[index]), self.device)


@dataclass(frozen=True)
class TrainedProgram:
    """A trained program with its settings and data."""

    directory: Path
    settings: argparse.Namespace  # of the training
    checkpoint: Checkpoint
    program: nn.Module
    data: ImageData  # of the split that is asked for
    device: torch.device

    def rows(self, limit: int | None = None, every: int = 1) -> Batch:
        """The data that `some` has, (N, *shape); dynamic binarization is drawn once.

        With conditions, where the run has any: (x, y).
        """
        some = self.some(limit, every)
        return without_conditions(some.batch(torch.arange(len(some))))

    def some(self, limit: int | None = None, every: int = 1) -> SomeData:
        """Each `every`-th datum of the split, the first `limit` of these, with the names of their conditions."""
        return SomeData(self.data, torch.arange(0, len(self.data), every)[:limit], self.device)


def with_labels_hidden(trained: TrainedProgram) -> TrainedProgram:
    """The same run on data of which no label is known, -1: a program that observes labels is judged by log p(x).

    Raises:
        ValueError: the run is given no labels, or its program only reads them or does not run without.
    """
    data = copy.copy(trained.data)
    if "labels" not in data.spec.conditions:
        raise ValueError(f"--hide-labels: {trained.directory} was not trained with --condition labels: leave it out")
    named = zip(data.spec.conditions, data.conditions, strict=True)
    data.conditions = tuple(torch.full_like(y, NOT_KNOWN) if name == "labels" else y for name, y in named)
    data.labels = None if data.labels is None else torch.full_like(data.labels, NOT_KNOWN)
    found = replace(trained, data=data)
    with evaluation_mode(trained.program, (first := trained.rows(1))) as pair:
        observed = likelihood_names(pair, first, data.spec.conditions).observed
    if "labels" not in observed:
        raise ValueError(
            f"--hide-labels: the program of {trained.directory} is given labels and observes none, so that it has no "
            "log p(x) without them: leave it out"
        )
    _require_without_labels(found)
    return found


def _require_without_labels(hidden: TrainedProgram) -> None:
    try:
        with evaluation_mode(hidden.program, hidden.rows(1)):
            pass
    except Exception as error:
        raise ValueError(
            f"--hide-labels: the program of {hidden.directory} observes labels and does not run where none is known, "
            f"-1 ({error_message(error)}): leave it out, or let the program draw them, as by obs_mask"
        ) from error


def load_trained(directory: str, arguments: argparse.Namespace, device: torch.device) -> TrainedProgram:
    """Load the program of a run.

    Arguments:
        arguments: weights, split, data_root and trust, as `pplvm evaluate` has them.

    Raises:
        FileNotFoundError: no run, or no checkpoint in it. ValueError: a damaged one, weights that do not fit, settings
            that name code which nobody trusts.
    """
    path = Path(directory)
    settings = _settings(path, arguments)
    foreign = partial(run_of_manifest, run_of(path / "config.yaml"))
    checkpoint = (read_best if arguments.weights == "best" else read_latest)(path, foreign)
    if checkpoint is None:
        which = "was saved as the best" if arguments.weights == "best" else "is there"
        raise FileNotFoundError(f"{path}: no checkpoint {which}")
    if checkpoint.skipped:
        print_status("; ".join([*checkpoint.skipped, f"taken instead: {checkpoint.path}, step {checkpoint.step}"]))
    data = _data(path, argparse.Namespace(**vars(settings) | {"split": arguments.split}))
    program = build_program(settings.program, settings.set, data, settings.seed, checkpoint.weights)
    if any(map(is_lazy, [*program.parameters(), *program.buffers()])):
        inspect_pair(program.eval().model, program.guide, data.batch(torch.arange(1)), {})  # makes them
    weights = without_wrapper_prefixes(checkpoint.weights, program)
    if reason := mismatch(weights, program):
        raise ValueError(f"{checkpoint.path} does not fit {settings.program}: {reason}")
    program.load_state_dict(weights)
    program.to(device).eval()
    check_data(program, data, to_device(data.batch(torch.arange(1)), device))
    return TrainedProgram(path, settings, checkpoint, program, data, device)


def _data(path: Path, settings: argparse.Namespace) -> ImageData:
    """The data of a run; for runs older than --levels, an error says where to give them.

    Raises:
        ValueError, LookupError, FileNotFoundError: there are no such data, or they cannot be read.
    """
    try:
        return build_data(settings)
    except ValueError as error:
        config = path / "config.yaml"
        if "--levels" not in str(error) or re.search("^levels:", config.read_text(encoding="utf-8"), re.MULTILINE):
            raise
        raise ValueError(f"{error}; this run is older than --levels: say it in {config}, as levels: 256") from error


def _settings(path: Path, arguments: argparse.Namespace) -> argparse.Namespace:
    if not path.is_dir():
        raise FileNotFoundError(f"there is no directory {path}: name one that pplvm fit wrote")
    config = trusted_config(path / "config.yaml", [], arguments.trust)
    if arguments.data_root is not None:
        config["data_root"] = arguments.data_root
    parser = build_parser()
    known = settings_of(parser.parse_args(["fit"]))
    return parser.parse_args(["fit", *as_argv(config, known, path / "config.yaml")])


def changed_data(trained: TrainedProgram) -> list[str]:
    """A warning that the training data differ from the checkpoint's; empty if they do not."""
    there = trained.checkpoint.manifest.get("data", {}).get("sha256")
    here = data_checksum(build_data(argparse.Namespace(**vars(trained.settings)), quiet=True))
    if there in (None, here):
        return []
    return [f"{trained.settings.data} has changed since training: some of these data may have been trained on"]


def comparability_caveats(trained: TrainedProgram, split: str, count: int, every: int = 1) -> list[str]:
    """Why figures on `count` data of a split, each `every`-th, do not compare with published ones, a sentence each."""
    spec, settings = trained.data.spec, trained.settings
    found = []
    if settings.data not in ("mnist", "fashion-mnist", "binarized-mnist"):
        found.append(f"{settings.data} is no data set on which figures are published in this form")
    if spec.binarization == "static":
        found.append("binarized by a threshold, which is neither the published static nor the dynamic variant")
    if spec.binarization == "dynamic":
        found.append(f"binarized once, by seed {settings.seed}: each paper has a draw of its own, some 0.05 nats apart")
    if spec.levels not in (2, None) and not _has_discrete_data(trained):
        found.append("grey values under a density: nats depend on their unit")
    if count < len(trained.data):
        which = "the first " if every == 1 else f"one datum in {every}, "
        found.append(f"only {which}{count:,} of {len(trained.data):,} data of the split")
    if split != "test":
        found.append(f"of the {split} split: published figures are of the test split")
    if settings.split != "train":
        found.append(f"trained on the {settings.split} split")
    return found


def _has_discrete_data(trained: TrainedProgram) -> bool:
    with evaluation_mode(trained.program, (first := trained.rows(1))) as pair:
        return has_discrete_data(pair, first)
