"""Builds and checks everything that a training run needs, before anything is written or computed."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pplvm.batch import Batch, as_tuple
from pplvm.commands.building.builders import build_program
from pplvm.commands.building.data import build_data
from pplvm.commands.building.default_data_hint import default_data_hint, with_default_data_hint
from pplvm.commands.building.encoded_stage import encoded_stage
from pplvm.commands.building.program_checks import check_data
from pplvm.commands.building.stages import begin_stage, require_effect, with_initial_settings
from pplvm.commands.building.training_builders import (
    build_averaged,
    build_optimizers,
    build_schedulers,
    build_training_loss,
)
from pplvm.commands.output.status_output import print_status
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.distributed.collectives import all_gather_rows, all_reduce_mean
from pplvm.distributed.data_parallel import parallel
from pplvm.distributed.ranks import rank, seed_of_rank, size
from pplvm.graphs.compiled import Compiled
from pplvm.objectives.objective import Loss
from pplvm.particles.contract import ProgramError
from pplvm.particles.pair import Pair, pair_up
from pplvm.particles.vectorization_check import why_particles_interact
from pplvm.training.aggressive import Aggressive
from pplvm.training.checkpoints import Checkpoint
from pplvm.training.early_stopping import EarlyStopping
from pplvm.training.random_state import seed_all
from pplvm.training.run import Run
from pplvm.training.stepper import Step, Stepper

__all__ = ["Plan", "build_plan"]

FRESH_SEED = 1 << 41
"""Sets the order of the guide's own batches apart from that of any run's."""


@dataclass
class Plan:
    """The parts of a training run: data, program, loss, optimizers, schedulers, stepper."""

    arguments: argparse.Namespace
    loss: Loss
    averaged: AveragedModel | None
    run: Run
    epochs: Epochs
    stopping: EarlyStopping
    since: "MetricsSinceRecord"
    aggressive: Aggressive | None
    valid: ImageData | None
    x: Batch  # one of this process
    pair: Pair | None  # the program, checked; None where only an objective that needs no guide can use it
    fresh: Epochs | None  # of the guide's own steps, if training is aggressive
    stage: dict[str, Any]  # what the manifest tells of --initial and --train
    whole: nn.Module  # the program that is named, of which the loss may run a part

    @property
    def judged(self) -> Loss:
        """The loss whose weights are validated and saved: the running average if there is one."""
        return self.loss if self.averaged is None else cast(Loss, self.averaged.module)

    @property
    def program(self) -> nn.Module:
        return self.judged.program

    @property
    def named(self) -> Loss:
        """The loss of the whole program, by which a manifest describes the run."""
        return self.loss if self.loss.program is self.whole else Loss(self.loss.objective, self.whole)

    @property
    def device(self) -> torch.device:
        return as_tuple(self.x)[0].device

    def skip_to_next_epoch(self) -> None:
        """Start a new epoch, where the position in the old one is of batches of another size."""
        for epochs in (self.epochs, self.fresh):
            if epochs is not None:
                epochs.load_state_dict({"epoch": epochs.epoch + 1, "position": 0})


@dataclass
class MetricsSinceRecord:
    """Mean loss, gradient norm and penalties since the last record, saved in checkpoints."""

    penalties: tuple[str, ...] = ()  # what the loss reports, by name
    steps: list[Tensor] = field(default_factory=list)  # (2 + penalties,) each

    def observe(self, step: Step, reported: Mapping[str, Tensor]) -> None:
        beside = [reported[name].to(step.loss) for name in self.penalties]
        self.steps.append(torch.stack([step.loss, step.gradient_norm, *beside]))

    def told(self) -> tuple[float, float, dict[str, float]]:
        """The means over steps and processes; starts anew."""
        loss, norm, *beside = all_reduce_mean(torch.stack(self.steps).mean(0)).tolist()
        self.steps = []
        return loss, norm, dict(zip(self.penalties, beside, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The sums of all processes, (R, T, 2 + penalties); all ranks must call it."""
        own = torch.stack(self.steps) if self.steps else torch.zeros(0, self._width)
        return {"steps": all_gather_rows(own[None].cpu(), size())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        every = state["steps"]
        if every.dim() != 3 or every.shape[2] != self._width:
            shape = tuple(every.shape)
            raise ValueError(f"the steps since the last record have shape {shape}, not (R, T, {self._width})")
        self.steps = list(every[rank()] if len(every) == size() else every.mean(0))

    @property
    def _width(self) -> int:
        return 2 + len(self.penalties)


def build_plan(arguments: argparse.Namespace, device: torch.device, found: Checkpoint | None = None) -> Plan:
    """Build data, program, objective and optimizers, each checked against the others.

    Arguments:
        found: the checkpoint from which the run goes on, if it does.

    Raises:
        ValueError, LookupError, OSError: bad input.
    """
    if found is None:
        arguments.set = with_initial_settings(arguments)
    data, valid = _data(arguments)
    weights = None if found is None else found.weights
    program = build_program(arguments.program, arguments.set, data, arguments.seed, weights).to(device)
    data = data.to(device)
    part = (rank(), size())
    if (batch_size := min(arguments.batch_size, len(data))) < arguments.batch_size:
        print_status(
            f"--batch-size {arguments.batch_size} is more than the {len(data)} data: all of them are one batch"
        )
    epochs = Epochs(data, batch_size, seed=arguments.seed, device=device, part=part)
    x = _first_batch(epochs)
    with default_data_hint(arguments, arguments.program):
        check_data(program, data, x)
    stage = begin_stage(arguments, program, None if found is None else found.manifest)
    whole, (program, data, valid) = program, encoded_stage(arguments, program, data, valid, x)
    if program is not whole:
        epochs = Epochs(data, batch_size, seed=arguments.seed, device=device, part=part)
        x = _first_batch(epochs)
    loss, pair = _trained_loss(arguments, program, data, x)
    optimizers = build_optimizers(arguments, loss, x)
    _require_guide(arguments, optimizers)
    averaged = build_averaged(arguments.average, loss)
    stepper = Stepper(
        parallel(Compiled(loss, arguments.compile, arguments.steps, print_status), x),
        optimizers,
        build_schedulers(arguments.schedule, optimizers, arguments.steps),
        arguments.clip,
        averaged,
    )
    stopping, since = EarlyStopping(arguments.early_stop), MetricsSinceRecord(tuple(loss.reported()))
    parts: dict[str, Any] = {"stopping": stopping, "since": since}
    aggressive, fresh = None, None
    if arguments.aggressive:
        fresh = Epochs(data, batch_size, seed=arguments.seed + FRESH_SEED, device=device, part=part)
        aggressive = Aggressive(fresh)
        parts |= {"aggressive": aggressive, "fresh": fresh}
    run = Run(stepper, epochs, aggressive or Stepper.__call__, parts)
    seed_all(seed_of_rank(arguments.seed))
    return Plan(
        arguments, loss, averaged, run, epochs, stopping, since, aggressive, valid, x, pair, fresh, stage, whole
    )


def _require_guide(arguments: argparse.Namespace, optimizers: dict[str, Optimizer]) -> None:
    """Refuse options of the guide's own optimizer where it has none."""
    if "guide" in optimizers or not (arguments.aggressive or arguments.guide_learning_rate):
        return
    of_guide = "--aggressive trains" if arguments.aggressive else "--guide-learning-rate is of"
    if arguments.train:
        raise ValueError(
            f"{of_guide} the guide, and --train {' '.join(arguments.train)} freezes it: leave one of them out"
        )
    raise ValueError(
        f"{of_guide} the guide apart, and this one has no parameter that the model does not use too, as under a prior "
        "made of its encoder: leave the option out"
    )


def _trained_loss(
    arguments: argparse.Namespace, program: nn.Module, data: ImageData, x: Batch
) -> tuple[Loss, Pair | None]:
    """The loss in training mode, and the program, checked.

    Raises:
        ValueError, LookupError: the objective is not legal for the program, or does not move what is to be trained.
    """
    try:
        loss = build_training_loss(arguments, program, data, x)
    except ValueError as error:
        raise ValueError(with_default_data_hint(arguments, arguments.program, str(error))) from error
    batch = as_tuple(x)
    require_effect(arguments.train, loss, batch)
    pair = _checked_pair(program, batch)
    if pair is not None and (fault := _many_refused(pair, batch)):
        print_status(
            f"it can be trained, but pplvm evaluate, compare and objectives of many particles will refuse it: {fault}"
        )
    return loss.train(), pair


def _data(arguments: argparse.Namespace) -> tuple[ImageData, ImageData | None]:
    """The training data and, of a split that has one, the validation data."""
    data = build_data(arguments)
    try:
        valid = build_data(argparse.Namespace(**vars(arguments) | {"split": "valid"}), quiet=True)
    except ValueError:
        valid = None
    if arguments.split != "train":
        valid = None
    if valid is None and (arguments.early_stop or arguments.aggressive):
        option = "--early-stop" if arguments.early_stop else "--aggressive"
        raise ValueError(f"{option} looks at validation data, of which there are none: train on --split train of more")
    return data, valid


def _first_batch(epochs: Epochs) -> Batch:
    state = epochs.state_dict()
    x = next(epochs)
    epochs.load_state_dict(state)
    return x


def _checked_pair(program: nn.Module, batch: Sequence[Tensor]) -> Pair | None:
    was_training = program.training
    try:
        return pair_up(program.eval().model, program.guide, tuple(batch), {})
    except ProgramError:
        return None
    finally:
        program.train(was_training)


def _many_refused(pair: Pair, batch: Sequence[Tensor]) -> str | None:
    """Why many particles at once are refused, said before a long training; None if they are not."""
    try:
        return why_particles_interact(pair, tuple(batch), {})
    except (ProgramError, torch.OutOfMemoryError):  # told where they are met
        return None
