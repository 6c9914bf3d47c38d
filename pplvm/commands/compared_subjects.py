"""What `pplvm compare` measures: programs with their minibatches, estimators and checkpoints, or why they cannot be."""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.commands.building import build_program, data_for
from pplvm.commands.checking import check_data
from pplvm.commands.checkpoints import load_checkpoint, misfit, stops, trainer, unwrapped
from pplvm.commands.default_data import default_data_told
from pplvm.commands.estimators import Choice, choose_estimators, sweep_particles
from pplvm.data.batches import fixed_batch
from pplvm.data.image_data import ImageData
from pplvm.distributed.ranks import size
from pplvm.objectives.objective import Loss
from pplvm.particles.contract import latents
from pplvm.particles.pair import pair_up

__all__ = ["Subject", "subjects_of"]


@dataclass(frozen=True)
class Subject:
    """A program, and what is to be measured of it."""

    name: str
    minibatches: list[Tensor]
    choice: Choice
    trained: Loss
    files: dict[str, dict[str, Tensor]]  # checkpoints that fit it

    @property
    def program(self) -> nn.Module:
        return self.trained.program


def subjects_of(arguments: argparse.Namespace, data: ImageData, device: torch.device) -> list[Subject]:
    """Everything that can be refused is refused here, before anything is computed.

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
    stops(arguments)
    sweep_particles(arguments.sweep)
    files = {path: load_checkpoint(path) for path in arguments.checkpoint}
    subjects = [_subject(arguments, name, data, files, device) for name in arguments.program]
    for path, state in files.items():
        if not any(path in subject.files for subject in subjects):
            raise ValueError(
                f"--checkpoint {path} does not fit {subjects[0].name}: {misfit(state, subjects[0].program)}"
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
    with default_data_told(arguments, name):
        check_data(program, data, minibatches[0])
    if not latents(pair_up(program.model, program.guide, (minibatches[0],), {}).run_guide(1, (minibatches[0],), {})):
        raise ValueError(f"program {name} has no latents, so all estimators have one gradient: nothing to compare")
    choice = choose_estimators(arguments, program, data, minibatches[0])
    trained = trainer(arguments, program, data, minibatches[0])
    inner = {path: unwrapped(state, program) for path, state in files.items()}
    fitting = {path: state for path, state in inner.items() if misfit(state, program) is None}
    return Subject(name, minibatches, choice, trained, fitting)


def _minibatches(data: ImageData, arguments: argparse.Namespace, device: torch.device) -> list[Tensor]:
    rows = min(arguments.batch_size, len(data))
    available = max(1, len(data) // rows)
    return [
        fixed_batch(data, rows, seed=arguments.seed, number=number).to(device)
        for number in range(min(arguments.minibatches, available))
    ]
