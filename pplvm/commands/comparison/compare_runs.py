"""Runs as checkpoints: `pplvm compare --checkpoint runs/mine` takes program and data from the run."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pplvm.commands.options.shared_options import data_options
from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.config import as_argv, run_of, settings_of, trusted_config
from pplvm.commands.runs.manifest import run_of_manifest
from pplvm.commands.runs.user_modules import import_path_of
from pplvm.training.checkpoints import Checkpoint, read_checkpoint, read_latest

__all__ = ["read_from_run", "run_around", "with_runs"]


def with_runs(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, words: Sequence[str]
) -> argparse.Namespace:
    """Fill program, settings and data from the runs that --checkpoint names, except what was typed.

    Raises:
        ValueError: runs differ in what is not typed, or are of another program than --program, or name code that
            nobody trusts. FileNotFoundError: no run is there.
    """
    runs = {path: run for path in arguments.checkpoint if (run := run_around(path)) is not None}
    if not runs:
        return arguments
    usual = parser.parse_args([arguments.command])
    is_typed = arguments.program is not usual.program
    found = {path: _settings(run, words, arguments.trust) for path, run in runs.items()}
    if is_typed:
        _require_among(found, [import_path_of(name, "program") for name in arguments.program])
    first, *others = found.items()
    for path, settings in others:
        for name, value in settings.items():
            if value != first[1].get(name) and not (name == "program" and is_typed) and not _is_typed(name, words):
                raise ValueError(
                    f"--checkpoint {first[0]} and {path} differ in {name}, {first[1].get(name)} and {value}: "
                    f"type --{name.replace('_', '-')}, or compare them one by one"
                )
    given = {name: value for name, value in first[1].items() if not (name == "program" and is_typed)}
    program = {"program": [given.pop("program")]} if "program" in given else {}
    typed = list(words)[list(words).index(arguments.command) + 1 :]
    known = settings_of(usual)
    source = runs[first[0]] / "config.yaml"
    return parser.parse_args([arguments.command, *as_argv(given | program, known, source), *typed])


def run_around(path: str) -> Path | None:
    """The run directory that a path is, or that its checkpoint lies in; None for a file outside of runs.

    Raises:
        FileNotFoundError: it is a folder, and none of a run.
    """
    if not Path(path).is_dir():
        return None
    for folder in (Path(path), Path(path).parent.parent):
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    raise FileNotFoundError(f"--checkpoint {path} is a folder that pplvm fit did not write: name a run, or a file")


def read_from_run(path: str, run: Path) -> Checkpoint:
    """Read the latest checkpoint of a run, or the one that the path names.

    Raises:
        FileNotFoundError: there is none. ValueError: it is damaged, or another run's.
    """
    foreign = partial(run_of_manifest, run_of(run / "config.yaml"))
    if Path(path) == run:
        found = read_latest(run, foreign)
        if found is None:
            raise FileNotFoundError(f"--checkpoint {path}: no checkpoint is there")
    else:
        found = read_checkpoint(Path(path))
        if reason := foreign(found.manifest):
            raise ValueError(f"--checkpoint {path} is another run's, {reason}: name one of {run}")
    print_status("; ".join([*found.skipped, f"--checkpoint {path}: the weights of step {found.step}"]))
    return found


def _settings(run: Path, words: Sequence[str], trust: Sequence[str]) -> dict[str, Any]:
    """The settings of a run's program and data."""
    config = trusted_config(run / "config.yaml", words, trust)
    return {name: config[name] for name in ("program", "set", *data_options()) if name in config}


def _require_among(found: dict[str, dict[str, Any]], programs: Sequence[str]) -> None:
    for path, settings in found.items():
        if (own := settings.get("program")) not in programs:
            raise ValueError(
                f"--checkpoint {path} is a run of {own}, and --program is {', '.join(programs)}: "
                "leave --program out, or name another run"
            )


def _is_typed(name: str, words: Sequence[str]) -> bool:
    return any(word.partition("=")[0] == "--" + name.replace("_", "-") for word in words)
