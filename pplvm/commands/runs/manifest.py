"""The manifest of a run: versions, data, program and seed, compared when the run is resumed."""

import argparse
import hashlib
import inspect
import itertools
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from pplvm.catalog import PROGRAMS, load
from pplvm.commands.building.training_builders import learning_rates
from pplvm.commands.options.settings import split_settings
from pplvm.data.image_data import ImageData
from pplvm.objectives.objective import Loss
from pplvm.training.architecture import architecture, manifest_differences

__all__ = [
    "changed_settings",
    "data_checksum",
    "manifest_of",
    "run_of_manifest",
    "why_another_program",
    "why_not_resumable",
    "with_stage",
]

PACKAGES = ("pplvm", "torch", "pyro-ppl", "numpy")

MUST_AGREE = {
    "program": "program",
    "settings": "setting of the program",
    "conditions": "--condition, --known-labels or other labels",
    "objective": "objective",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "averaged": "choice of --average",
    "aggressive": "choice of --aggressive",
    "train": "choice of --train",
    "architecture": "architecture",
}
"""What the state in a checkpoint is the state of."""

BIT_IDENTICAL = {
    "rates": "the learning rates",
    "seed": "the seed",
    "batch_size": "the batch size",
    "processes": "the number of processes",
    "threads": "the number of threads",
    "torch": "the torch build",
    "data": "the data",
}
"""What a resumed run must share with its checkpoint to be what it would have been."""


def manifest_of(arguments: argparse.Namespace, loss: Loss, data: ImageData, processes: int) -> dict[str, Any]:
    """The manifest as plain values, the same for equal runs: no clock, no path; its digest identifies the run."""
    found = {
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "torch": torch.__version__,
        "program": f"{type(loss.program).__module__}:{type(loss.program).__qualname__}",
        "settings": _settings(arguments),
        "objective": _described(loss.objective),
        "architecture": architecture(loss),
        **({"conditions": condition_checksums(data)} if data.conditions else {}),
        "data": {
            "name": data.spec.name,
            "split": arguments.split,
            "size": len(data),
            "shape": list(data.spec.shape),
            "levels": data.spec.levels,
            "binarization": data.spec.binarization,
            "sha256": data_checksum(data),
        },
        "optimizer": arguments.optimizer,
        "rates": learning_rates(arguments),
        "schedule": _schedule(arguments),
        "averaged": arguments.average is not None,
        "aggressive": arguments.aggressive,
        "seed": arguments.seed,
        "batch_size": arguments.batch_size,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "device": torch.device(arguments.device).type,
    }
    return {"run": _digest(found), **found}


def with_stage(manifest: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Any]:
    """Add --initial and --train to a manifest, where they are given; the run's digest then covers them."""
    found = {name: value for name, value in manifest.items() if name != "run"} | dict(stage)
    return {"run": _digest(found), **found}


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def data_checksum(data: ImageData) -> str:
    """The sha256 of the stored data, (N, ...), binarized if by a threshold, and of their conditions."""
    found = hashlib.sha256()
    for part in itertools.chain(data.parts(), data.conditions):
        found.update(part.cpu().contiguous().numpy().data)
    return found.hexdigest()


def condition_checksums(data: ImageData) -> dict[str, str]:
    """The first 16 digits of the sha256 of each condition, (N, ...), by its name."""
    named = zip(data.spec.conditions, data.conditions, strict=True)
    return {name: hashlib.sha256(each.cpu().contiguous().numpy().data).hexdigest()[:16] for name, each in named}


def why_not_resumable(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Why this run cannot resume a checkpoint, in one sentence; None if it can."""
    found = manifest_differences(there, here)
    for field, word in MUST_AGREE.items():
        if field in found:
            return f"it was saved with another {word}: {found[field]}"
    return None


def why_another_program(there: Mapping[str, Any], arguments: argparse.Namespace) -> str | None:
    """As `why_not_resumable`, for the program by name only, so that none is built; None if it agrees.

    Of a name that stands for a function, only the program that it makes knows its class, and is compared later.
    """
    if arguments.program not in PROGRAMS:
        return None
    path = PROGRAMS[arguments.program].path
    here = {"settings": _settings(arguments)} | ({"program": path} if inspect.isclass(load(path)) else {})
    return why_not_resumable({name: there.get(name) for name in here}, here)


def run_of_manifest(run: str | None, manifest: Mapping[str, Any]) -> str | None:
    """The run that a manifest belongs to, if that is not `run`; None if it is, or one of them is not known."""
    if run is None or manifest.get("run", run) == run:
        return None
    told = {name: manifest.get(name) for name in ("program", "objective", "seed")}
    return f"of {told['program']} under {told['objective']}, seed {told['seed']}"


def changed_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings with which a resumed run would differ from the run that was stopped."""
    return [
        f"{word} ({_value(there.get(field))} there, {_value(here[field])} here)"
        for field, word in BIT_IDENTICAL.items()
        if there.get(field) != here[field]
    ]


def _value(field: Any) -> str:
    """A field of a manifest in few words: of data name and checksum, of rates that of the model first."""
    if isinstance(field, dict) and "sha256" in field:
        return f"{field['name']} {field['split']} {field['sha256'][:8]}"
    return ", ".join(f"{each:g}" for each in dict.fromkeys(field.values())) if isinstance(field, dict) else str(field)


def _settings(arguments: argparse.Namespace) -> dict[str, str]:
    return {name: str(value) for name, value in sorted(split_settings(arguments.set).items())}


def _schedule(arguments: argparse.Namespace) -> str:
    """The schedule of the learning rate, with the number of steps that it spans if it depends on them."""
    spans = arguments.schedule.split("@")[0] in ("cosine", "linear")
    return f"{arguments.schedule} over {arguments.steps} steps" if spans else arguments.schedule


def _described(objective: object) -> str:
    """An objective with its constructor's numbers, wrappers around what they wrap."""
    inner = getattr(objective, "inner", None)
    words = [] if inner is None else [_described(inner)]
    for name in inspect.signature(type(objective).__init__).parameters:
        value = getattr(objective, name, None)
        if name == "bound" and inner is None:
            words.append(getattr(value, "__name__", str(value)))
        elif isinstance(value, int | float | str | dict):
            words.append(f"{name}={value}")
    if (number := getattr(objective, "number", None)) is not None:
        words.append(str(number))
    return f"{type(objective).__name__}({', '.join(words)})"
