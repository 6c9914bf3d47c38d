"""The directory of a training run: what stands in it, who may write it, and how it is taken up again."""

import argparse
import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from pplvm.commands.config import settings_of
from pplvm.distributed import from_first, is_first
from pplvm.training.checkpoints import Checkpoint, Checkpoints, read_latest
from pplvm.training.records import Records, TensorBoard

__all__ = ["RunFiles", "last_checkpoint"]

WRITTEN = (
    "config.yaml", "metrics.jsonl", "metrics.csv", "checkpoints", "model.safetensors", "state.pt", "manifest.json",
    "figures", "tensorboard", "failure.json", "timing.json",
)  # fmt: skip
"""What a run leaves in its directory, and --overwrite replaces."""


class RunFiles:
    """A run's directory as the first process writes it; on the others nothing is written.

    Raises:
        ValueError: the directory exists, and neither --resume nor --overwrite is given. OSError: it cannot be written.
    """

    def __init__(self, arguments: argparse.Namespace, resumed_from: int | None) -> None:
        default = f"runs/fit-{datetime.now():%Y%m%d-%H%M%S}"
        self.directory = Path(from_first(str(arguments.resume or arguments.output or default)))
        self._writes = is_first()
        if not self._writes:
            return
        if arguments.resume is None:
            _refuse(self.directory, arguments.overwrite)
        self._checkpoints = Checkpoints(self.directory, arguments.keep)
        if arguments.resume is None:
            _clear(self.directory)  # now that no other process is at work there
        config = yaml.safe_dump(settings_of(arguments), sort_keys=False)
        (self.directory / "config.yaml").write_text(config, encoding="utf-8")
        self._records: list[Records | TensorBoard] = [Records(self.directory, resumed_from)]
        if arguments.tensorboard:
            self._records.append(TensorBoard(self.directory / "tensorboard", resumed_from))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for records in self._records if self._writes else ():
            records.write(step, values)

    def save(
        self, step: int, weights: dict[str, Any], state: dict[str, Any], manifest: dict[str, Any], best: bool
    ) -> None:
        if self._writes:
            self._checkpoints.save(step, weights, state, manifest, best)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        if self._writes:
            (self.directory / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Write what is only written at the end: the metrics as a table and as curves."""
        if not self._writes:
            return
        for records in self._records:
            records.close()
        lines = (self.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        if lines:
            from pplvm.plots.curves import save_curves

            (self.directory / "figures").mkdir(exist_ok=True)
            save_curves([json.loads(line) for line in lines], self.directory / "figures" / "curves.png")


def _refuse(directory: Path, overwrite: bool) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file: name another directory with --output")
    held = {path.name for path in directory.iterdir()}
    if held and not overwrite:
        raise ValueError(
            f"{directory} exists: go on with it by --resume {directory}, replace it by --overwrite, or name another "
            "with --output"
        )
    if strange := sorted(held - set(WRITTEN)):
        raise ValueError(f"{directory} holds {strange[0]!r}, which no run wrote: name another directory with --output")


def _clear(directory: Path) -> None:
    """Remove what an older run left, the lock of its checkpoints aside, which is held."""
    for path in [*directory.iterdir(), *(directory / "checkpoints").iterdir()]:
        if path.name not in ("checkpoints", ".lock"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def last_checkpoint(directory: str) -> Checkpoint:
    """The newest readable checkpoint of a run.

    Raises:
        FileNotFoundError: there is none. ValueError: none can be read; the reason of each.
    """
    found = read_latest(Path(directory))
    if found is None:
        raise FileNotFoundError(f"there is no checkpoint in {directory}: name a directory that pplvm fit wrote")
    return found
