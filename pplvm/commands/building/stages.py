"""The options `--initial RUN` and `--train PART`: initial weights, frozen parts, and their record in the manifest."""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.commands.options.settings import split_settings
from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.config import read_config, run_of
from pplvm.commands.runs.manifest import run_of_manifest
from pplvm.data.image_data import ImageData
from pplvm.distributed.object_collectives import errors_on_all_ranks
from pplvm.objectives.objective import Loss
from pplvm.particles.side_effects import without_side_effects
from pplvm.programs.code_networks import DENSE_GRID
from pplvm.programs.sq_vae import SQVAE
from pplvm.programs.vq_vae import VQVAE
from pplvm.training.checkpoint_format import OTHER, WEIGHTS
from pplvm.training.checkpoints import Checkpoint
from pplvm.training.stages import Initialized, checkpoint_of, initialize, train_only

__all__ = ["begin_stage", "require_effect", "with_initial_settings"]


def with_initial_settings(arguments: argparse.Namespace) -> list[str]:
    """The settings of --set, and those of the run that --initial names which --set does not give, for the same program.

    So stage two builds the program that stage one trained, but for what is typed.
    """
    there = _settings_there(arguments)
    typed = split_settings(arguments.set)
    taken = [word for word in there if word.partition("=")[0] not in typed]
    if taken:
        print_status(f"--initial {arguments.initial}: its settings hold here too, --set {' --set '.join(taken)}")
    return [*taken, *arguments.set]


def _settings_there(arguments: argparse.Namespace) -> list[str]:
    """The settings of the run that --initial names, if it trained the program of this one; none elsewhere."""
    if arguments.initial is None or (config := _config(arguments.initial)) is None:
        return []
    found = read_config(config)
    settings = found.get("set") or []
    return [str(word) for word in settings] if found.get("program") == arguments.program else []


def _config(directory: str) -> Path | None:
    """The config.yaml of a run, by its directory or that of one of its checkpoints."""
    folders = (Path(directory), Path(directory).parent.parent)
    return next((folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()), None)


def begin_stage(
    arguments: argparse.Namespace, program: nn.Module, data: ImageData, resumed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Load the weights of --initial and freeze all but --train; returns both for the manifest.

    Arguments:
        program: that has run on a batch, so that all its parameters are there.
        data: of the training; other data than those of --initial are told.
        resumed: the manifest of the checkpoint from which the run goes on, whose weights are its own.

    Raises:
        FileNotFoundError, ValueError, LookupError: there is no such run, or none of its weights fits, or no such part,
            or what is frozen has no weights there.
    """
    stage: dict[str, Any] = {}
    told = Initialized((), (), ())
    if arguments.initial is not None and resumed is not None:
        stage |= {name: resumed[name] for name in ("initial",) if name in resumed}
    elif arguments.initial is not None:
        with errors_on_all_ranks():
            found = _initial(arguments.initial)
            told = _initialized(program, found, arguments)
            checksum = hashlib.sha256(Path(found.path, WEIGHTS).read_bytes()).hexdigest()
        stage["initial"] = {"run": found.manifest.get("run"), "step": found.step, "sha256": checksum}
        print_status("; ".join([*found.skipped, f"--initial {arguments.initial}, step {found.step}: {told}"]))
        if other := _other_data(found, data):
            print_status(f"--initial {arguments.initial} was trained on {other}")
    if arguments.train:
        train_only(program, *arguments.train)
        if arguments.initial is not None and resumed is None:
            _require_trained(arguments, program, told)
        learning = sum(p.numel() for p in program.parameters() if p.requires_grad)
        every = sum(p.numel() for p in program.parameters())
        print_status(
            f"--train {' '.join(arguments.train)}: {learning:,} of {every:,} parameters learn, the rest is frozen"
        )
        stage["train"] = sorted(set(arguments.train))
    return stage


def _initialized(program: nn.Module, found: Checkpoint, arguments: argparse.Namespace) -> Initialized:
    there, here = split_settings(_settings_there(arguments)), split_settings(arguments.set)
    of_there, of_here = _grid(program, there), _grid(program, here)
    if of_there and of_here and of_there != of_here:
        raise ValueError(
            f"--initial {arguments.initial}: its codes lie on a grid of {_told(of_there)}, and --set grid="
            f"{_told(of_here)} is another, whose prior reads them in another order: leave grid out"
        )
    try:
        return initialize(program, found.weights)
    except ValueError as error:
        differ = [
            f"{name} is {_setting(there, name)} there and {_setting(here, name)} here"
            for name in dict.fromkeys([*there, *here])
            if there.get(name) != here.get(name)
        ]
        settings = f"; of --set, {', '.join(differ)}" if differ else ""
        raise ValueError(f"--initial {arguments.initial}: {error}{settings}") from error


def _grid(program: nn.Module, settings: Mapping[str, Any]) -> Any:
    """The grid of a program of codes, as its settings say; None where it follows from the image."""
    is_dense = isinstance(program, VQVAE | SQVAE) and "channels" not in settings
    return settings.get("grid", DENSE_GRID) if is_dense else None


def _setting(settings: Mapping[str, Any], name: str) -> str:
    return _told(settings.get(name, "not given"))


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _require_trained(arguments: argparse.Namespace, program: nn.Module, told: Initialized) -> None:
    """Refuse to freeze encoder or decoder of a program of codes at their random start, as --initial has none of them.

    Others may freeze what is new: random features, a prior that is still the uniform one.

    Raises:
        ValueError: of the first such parameter.
    """
    frozen = {n for n, p in program.named_parameters() if not p.requires_grad and not n.startswith("prior.")}
    if not callable(getattr(program, "draw_codes", None)):
        return
    if untrained := [name for name in told.new if name in frozen]:
        raise ValueError(
            f"--initial {arguments.initial} has no weights of {untrained[0]!r}, and --train "
            f"{' '.join(arguments.train)} would freeze it at its random start: name a run of the same architecture, or "
            "train that part too"
        )


def _other_data(found: Checkpoint, data: ImageData) -> str:
    """The data of a checkpoint, where they are other ones, or binarized otherwise, and what these are."""
    there, here = found.manifest.get("data", {}), {"name": data.spec.name, "binarization": data.spec.binarization}
    if all(there.get(field, value) == value for field, value in here.items()):
        return ""
    told = [f"{of['name']} (binarization: {of['binarization']})" for of in (here | there, here)]
    return f"{told[0]}, and this run reads {told[1]}"


def _initial(directory: str) -> Checkpoint:
    """The checkpoint that --initial names, by its run or its folder.

    Raises:
        FileNotFoundError: there is none. ValueError: it is damaged, or another run's than that in whose folder it is.
    """
    try:
        found = checkpoint_of(directory)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"--initial: {error}") from error
    if (config := _config(directory)) is not None and (reason := run_of_manifest(run_of(config), found.manifest)):
        raise ValueError(f"--initial: {found.path} is another run's, {reason}: {OTHER}")
    return found


def require_effect(parts: Sequence[str], loss: Loss, batch: Sequence[Tensor]) -> None:
    """Refuse to train parts that the objective does not depend on.

    Arguments:
        parts: of the loss's program, as --train names them.
        batch: data and conditions, on which the loss is run once; it leaves no trace.

    Raises:
        ValueError: of the first such part.
    """
    if not parts:
        return
    learning = {name: p for name, p in loss.program.named_parameters(remove_duplicate=False) if p.requires_grad}
    with without_side_effects(loss, batch), torch.enable_grad():
        value = loss(*batch)
        found = [None] * len(learning)
        if value.requires_grad:
            found = torch.autograd.grad(value, list(learning.values()), allow_unused=True)
    moved = {name for name, gradient in zip(learning, found, strict=True) if gradient is not None}
    for part in parts:
        if not any(name == part or name.startswith(f"{part}.") for name in moved):
            raise ValueError(
                f"--train {part}: {type(loss.objective).__name__} does not depend on any parameter of it, so that "
                "nothing would be learned: name another part, or another --objective"
            )
