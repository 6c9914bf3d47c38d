"""The files of a training run: metrics, curves, configuration and checkpoints."""

import argparse
import contextlib
import json
import time
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from pplvm.commands.output.matplotlib_settings import default_style
from pplvm.commands.runs.config import run_of, settings_of
from pplvm.commands.runs.manifest import run_of_manifest
from pplvm.commands.runs.output_directory import RUN, clear, refuse_links, refuse_taken
from pplvm.commands.runs.trust import remember
from pplvm.distributed.collectives import broadcast_object
from pplvm.distributed.object_collectives import errors_on_all_ranks
from pplvm.distributed.ranks import is_first
from pplvm.training.atomic_write import TEMPORARY, atomic_write, write_errors_explained
from pplvm.training.checkpoints import Checkpoint, Checkpoints, read_latest
from pplvm.training.records import Records, TensorBoard, require_records

__all__ = ["RunFiles", "last_checkpoint"]

CURVES = "curves.png"

PAUSE, SHARE = 10.0, 0.03
"""Seconds at least between two drawings of the curves, and the most of a run's time that they may take."""


class RunFiles:
    """Writes the directory of a run on the first rank; does nothing on others.

    What a run left that ended before its first checkpoint is replaced, for nothing can go on with it.

    Raises:
        ValueError: the directory holds a run, and neither --resume nor --overwrite is given, or another process writes
            there, or it holds what no run wrote, or a link where a run writes. OSError: it cannot be written.
    """

    def __init__(self, arguments: argparse.Namespace, resumed_from: int | None, run: str) -> None:
        default = f"runs/fit-{datetime.now():%Y%m%d-%H%M%S}"
        self.directory = Path(broadcast_object(str(arguments.resume or arguments.output or default)))
        self._writes = is_first()
        self.saved_step = resumed_from
        self._drawn, self._pause = time.monotonic(), PAUSE
        if not self._writes:
            return
        if arguments.tensorboard and not find_spec("tensorboard"):
            raise ValueError("--tensorboard: it is not installed, pip install 'pplvm[tensorboard]'")
        if arguments.resume is None:
            _refuse_to_replace(self.directory, arguments.initial)
            refuse_taken(self.directory, RUN, arguments.overwrite)
        else:
            refuse_links(self.directory, RUN)
            require_records(self.directory, resumed_from)
        self._checkpoints = Checkpoints(self.directory, arguments.keep)  # from here on no other process writes here
        if arguments.resume is None:
            clear(self.directory, keep=("checkpoints", "checkpoints/.lock"))  # the lock is this process's
        self._write("config.yaml", yaml.safe_dump({"run": run, **settings_of(arguments)}, sort_keys=False))
        remember(self.directory, run, settings_of(arguments))  # all code that it names was typed, or is trusted
        self._records: list[Records | TensorBoard] = [Records(self.directory, resumed_from)]
        if arguments.tensorboard:
            self._records.append(TensorBoard(self.directory / "tensorboard", resumed_from))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for records in self._records if self._writes else ():
            records.write(step, values)

    def records(self) -> list[dict[str, Any]]:
        """All records of the run; none on ranks beside the first."""
        if not self._writes:
            return []
        with open(self.directory / "metrics.jsonl", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def draw_in_time(self) -> None:
        """Plot the curves, if that has not been done for a while."""
        if self._writes and time.monotonic() - self._drawn >= self._pause:
            self._draw()

    def save(
        self, step: int, weights: dict[str, Any], state: dict[str, Any], manifest: dict[str, Any], best: bool
    ) -> None:
        if self._writes:
            self._checkpoints.save(step, weights, state, manifest, best)
        self.saved_step = step

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        if self._writes:
            self._write(name, json.dumps(values, indent=1) + "\n")

    def __enter__(self) -> "RunFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Write the metrics as a table for good and, unless there was an error, as curves."""
        if kind is None:
            with errors_on_all_ranks():
                if self._writes:
                    self._close()
                    self._draw()
        elif self._writes:
            with contextlib.suppress(OSError):  # the error is to be told
                self._close()

    def _close(self) -> None:
        for records in self._records:
            records.close()

    def _draw(self) -> None:
        """Replace the plot of the curves by one of all records."""
        if not (records := self.records()):
            return
        from pplvm.plots.curves import save_curves

        began, unfinished = time.monotonic(), self.directory / f".{CURVES}{TEMPORARY}"
        with default_style():
            save_curves(records, unfinished)
        unfinished.replace(self.directory / CURVES)
        self._drawn = time.monotonic()
        self._pause = max(PAUSE, (self._drawn - began) / SHARE)

    def _write(self, name: str, text: str) -> None:
        """Write a file atomically."""
        with write_errors_explained(self.directory, len(text)):
            atomic_write(self.directory / name, [text.encode()])


def last_checkpoint(directory: str) -> Checkpoint:
    """Read the newest readable checkpoint of a run.

    Raises:
        FileNotFoundError: there is none. ValueError: none can be read; the reason of each.
    """
    own = run_of(Path(directory, "config.yaml"))
    found = read_latest(Path(directory), partial(run_of_manifest, own))
    if found is None:
        raise FileNotFoundError(f"there is no checkpoint in {directory}: name a directory that pplvm fit wrote")
    return found


def _refuse_to_replace(directory: Path, initial: str | None) -> None:
    """Refuse to overwrite the run from whose weights the new one starts: its config.yaml would name itself."""
    if initial is not None and Path(initial).resolve().is_relative_to(directory.resolve()):
        raise ValueError(
            f"--initial {initial} lies in {directory}, which would be replaced: name another directory with --output, "
            f"or go on with the same training by --resume {directory}"
        )
