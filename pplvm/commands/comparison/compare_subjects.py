"""The subjects of `pplvm compare`: each program with its minibatches, estimators and checkpoints."""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import as_tuple
from pplvm.commands.building.builders import build_program, data_for
from pplvm.commands.building.default_data_hint import default_data_hint
from pplvm.commands.building.program_checks import check_data
from pplvm.commands.comparison.compare_checkpoints import (
    checkpoint_steps,
    load_checkpoint,
    trainer,
)
from pplvm.commands.comparison.compare_estimators import Choice, choose_estimators, sweep_particles
from pplvm.commands.comparison.random_guide import random_variant
from pplvm.commands.output.status_output import print_status
from pplvm.commands.runs.program_weights import mismatch, without_wrapper_prefixes
from pplvm.data.batches import fixed_batch
from pplvm.data.image_data import ImageData
from pplvm.distributed.ranks import size
from pplvm.objectives.objective import Loss
from pplvm.particles.contract import latents
from pplvm.particles.pair import pair_up

__all__ = ["Subject", "subjects_of"]


@dataclass(frozen=True)
class Subject:
    """A program with the minibatches and estimators that are to be compared on it."""

    name: str
    data: ImageData  # as the program takes them
    minibatches: list[tuple[Tensor, ...]]
    choice: Choice
    trained: Loss
    files: dict[str, dict[str, Tensor]]  # checkpoints that fit it

    @property
    def program(self) -> nn.Module:
        return self.trained.program


def subjects_of(arguments: argparse.Namespace, data: ImageData, device: torch.device) -> list[Subject]:
    """Build all subjects; whatever must be refused is refused here, before anything is computed.

    Raises:
        ValueError, LookupError, OSError: bad input.
    """
    for option, words in (("program", arguments.program), ("checkpoint", arguments.checkpoint)):
        if twice := [word for word in words if words.count(word) > 1]:
            raise ValueError(f"--{option} {twice[0]} is given twice")
    if arguments.replicates < size():
        raise ValueError(f"--replicates {arguments.replicates} is fewer than the {size()} processes: start fewer")
    if arguments.noise == "antithetic" and (arguments.points or 2) % 2:
        raise ValueError(f"--noise antithetic takes points in pairs: give an even --points, got {arguments.points}")
    checkpoint_steps(arguments)
    sweep_particles(arguments.sweep)
    files = {path: load_checkpoint(path) for path in arguments.checkpoint}
    subjects = [_subject(arguments, name, data, files, device) for name in arguments.program]
    for path, state in files.items():
        if not any(path in subject.files for subject in subjects):
            raise ValueError(
                f"--checkpoint {path} does not fit {subjects[0].name}: {mismatch(state, subjects[0].program)}"
            )
    return subjects


def _subject(
    arguments: argparse.Namespace,
    name: str,
    data: ImageData,
    files: dict[str, dict[str, Tensor]],
    device: torch.device,
) -> Subject:
    data = data_for(name, data)
    program = build_program(name, arguments.set, data, arguments.seed).to(device)
    minibatches = _minibatches(data, arguments, device)
    with default_data_hint(arguments, name):
        check_data(program, data, minibatches[0])
    first = minibatches[0]
    if (setting := random_variant(arguments, name, program, first)) is not None:
        print_status(f"pplvm compare: {name}'s guide draws nothing at random by default, so it gets --set {setting}")
        program = build_program(name, [*arguments.set, setting], data, arguments.seed).to(device)
    if not latents(pair_up(program.model, program.guide, first, {}).run_guide(1, first, {})):
        raise ValueError(f"program {name} has no latents, so all estimators have one gradient: nothing to compare")
    choice = choose_estimators(arguments, program, data, first)
    trained = trainer(arguments, program, data, first)
    inner = {path: without_wrapper_prefixes(state, program) for path, state in files.items()}
    fitting = {path: state for path, state in inner.items() if mismatch(state, program) is None}
    return Subject(name, data, minibatches, choice, trained, fitting)


def _minibatches(data: ImageData, arguments: argparse.Namespace, device: torch.device) -> list[tuple[Tensor, ...]]:
    rows = min(arguments.batch_size, len(data))
    available = max(1, len(data) // rows)
    return [
        as_tuple(fixed_batch(data, rows, seed=arguments.seed, number=number, device=device))
        for number in range(min(arguments.minibatches, available))
    ]
