"""A run taken up again to be judged: its settings, its weights, its program, and data of any split."""

import argparse
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pplvm.commands.building import build_program
from pplvm.commands.checking import check_data
from pplvm.commands.checkpoints import misfit, unwrapped
from pplvm.commands.config import as_words, run_of, settings_of, trusted_config
from pplvm.commands.data import build_data
from pplvm.commands.manifest import another_run, data_checksum
from pplvm.commands.options import build_parser
from pplvm.commands.say import say
from pplvm.data.image_data import ImageData
from pplvm.particles.pair import inspect_pair
from pplvm.training.checkpoints import Checkpoint, read_best, read_latest

__all__ = ["Trained", "caveats", "changed_data", "take_up"]


@dataclass(frozen=True)
class Trained:
    """A program as a run left it."""

    directory: Path
    settings: argparse.Namespace  # of the training
    checkpoint: Checkpoint
    program: nn.Module
    data: ImageData  # of the split that is asked for
    device: torch.device

    def rows(self, limit: int | None = None) -> Tensor:
        """The first data of the split, all unless there is a limit, (N, *shape); dynamic binarization drawn once."""
        count = len(self.data) if limit is None else min(limit, len(self.data))
        return self.data.rows(torch.arange(count)).to(self.device)


def take_up(directory: str, arguments: argparse.Namespace, device: torch.device) -> Trained:
    """Load a run.

    Arguments:
        arguments: weights, split, data_root and trust, as `pplvm evaluate` has them.

    Raises:
        FileNotFoundError: no run, or no checkpoint in it. ValueError: a damaged one, weights that do not fit, settings
            that name code which nobody trusts.
    """
    path = Path(directory)
    settings = _settings(path, arguments)
    foreign = partial(another_run, run_of(path / "config.yaml"))
    checkpoint = (read_best if arguments.weights == "best" else read_latest)(path, foreign)
    if checkpoint is None:
        which = "was saved as the best" if arguments.weights == "best" else "is there"
        raise FileNotFoundError(f"{path}: no checkpoint {which}")
    if checkpoint.skipped:
        say("; ".join([*checkpoint.skipped, f"taken instead: {checkpoint.path}, step {checkpoint.step}"]))
    data = _data(path, argparse.Namespace(**vars(settings) | {"split": arguments.split}))
    program = build_program(settings.program, settings.set, data, settings.seed, checkpoint.weights)
    if any(map(is_lazy, program.parameters())):
        inspect_pair(program.model, program.guide, (data.rows(torch.arange(1)),), {})  # makes them
    weights = unwrapped(checkpoint.weights, program)
    if reason := misfit(weights, program):
        raise ValueError(f"{checkpoint.path} does not fit {settings.program}: {reason}")
    program.load_state_dict(weights)
    program.to(device).eval()
    check_data(program, data, data.rows(torch.arange(1)).to(device))
    return Trained(path, settings, checkpoint, program, data, device)


def _data(path: Path, settings: argparse.Namespace) -> ImageData:
    """The data of a run; of one that is older than --levels, with a word on where to say them.

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
    return parser.parse_args(["fit", *as_words(config, known, path / "config.yaml")])


def changed_data(trained: Trained) -> list[str]:
    """That the training data are no longer those of the checkpoint, a sentence, or nothing if they are."""
    there = trained.checkpoint.manifest.get("data", {}).get("sha256")
    here = data_checksum(build_data(argparse.Namespace(**vars(trained.settings)), quiet=True))
    if there in (None, here):
        return []
    return [f"{trained.settings.data} has changed since training: some of these data may have been trained on"]


def caveats(trained: Trained, split: str, count: int) -> list[str]:
    """Why figures on the first `count` data of a split would not compare with published ones, a sentence each."""
    spec, settings = trained.data.spec, trained.settings
    found = []
    if settings.data not in ("mnist", "fashion-mnist", "binarized-mnist"):
        found.append(f"{settings.data} is no data set on which figures are published in this form")
    if spec.binarization == "static":
        found.append("binarized by a threshold, which is neither the published static nor the dynamic variant")
    if spec.binarization == "dynamic":
        found.append(f"binarized once, by seed {settings.seed}: each paper has a draw of its own, some 0.05 nats apart")
    if spec.levels not in (2, None):
        found.append("grey values under a density: nats depend on their unit")
    if count < len(trained.data):
        found.append(f"only the first {count:,} of {len(trained.data):,} data of the split")
    if split != "test":
        found.append(f"of the {split} split: published figures are of the test split")
    if settings.split != "train":
        found.append(f"trained on the {settings.split} split")
    return found
