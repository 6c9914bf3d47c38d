"""Everything that a training run is made of, built and checked before anything is written or computed."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pplvm.commands.building import build_program
from pplvm.commands.checking import check_data
from pplvm.commands.data import build_data
from pplvm.commands.default_data import after_default_data, default_data_told
from pplvm.commands.say import say
from pplvm.commands.training import build_averaged, build_optimizers, build_schedulers, build_training_loss
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.distributed.collectives import gathered, mean
from pplvm.distributed.data_parallel import parallel
from pplvm.distributed.ranks import rank, seed_of_rank, size
from pplvm.graphs.compiled import Compiled
from pplvm.objectives.objective import Loss
from pplvm.particles.agreement import particles_disagree
from pplvm.particles.contract import ProgramError
from pplvm.particles.pair import Pair, pair_up
from pplvm.training.aggressive import Aggressive
from pplvm.training.early_stopping import EarlyStopping
from pplvm.training.random_state import seed_all
from pplvm.training.run import Run
from pplvm.training.stepper import Step, Stepper

__all__ = ["Plan", "build_plan"]

FRESH_SEED = 1 << 41
"""Sets the order of the guide's own batches apart from that of any run's."""


@dataclass
class Plan:
    """A run before its first step, or at any later one."""

    arguments: argparse.Namespace
    loss: Loss
    averaged: AveragedModel | None
    run: Run
    epochs: Epochs
    stopping: EarlyStopping
    since: "SinceLast"
    aggressive: Aggressive | None
    valid: ImageData | None
    x: Tensor  # a batch of this process, (B, ...)
    pair: Pair | None  # the program, checked; None where only an objective that needs no guide can use it
    fresh: Epochs | None  # of the guide's own steps, if training is aggressive

    @property
    def judged(self) -> Loss:
        """The loss whose weights are validated and saved: the running average if there is one."""
        return self.loss if self.averaged is None else cast(Loss, self.averaged.module)

    @property
    def program(self) -> nn.Module:
        return self.judged.program

    def skip_to_next_epoch(self) -> None:
        """Leave epochs whose place means nothing any more, as they are of other batches."""
        for epochs in (self.epochs, self.fresh):
            if epochs is not None:
                epochs.load_state_dict({"epoch": epochs.epoch + 1, "position": 0})


@dataclass
class SinceLast:
    """Loss and gradient norm of this process's steps since they were last told; kept over a stop."""

    steps: list[Tensor] = field(default_factory=list)  # (2,) each

    def observe(self, step: Step) -> None:
        self.steps.append(torch.stack([step.loss, step.gradient_norm]))

    def told(self) -> tuple[float, float]:
        """Their means over steps and processes, and start anew."""
        loss, norm = mean(torch.stack(self.steps).mean(0)).tolist()
        self.steps = []
        return loss, norm

    def state_dict(self) -> dict[str, Any]:
        """Of all processes, (R, T, 2); all must ask."""
        own = torch.stack(self.steps) if self.steps else torch.zeros(0, 2)
        return {"steps": gathered(own[None].cpu(), size())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        every = state["steps"]
        if every.dim() != 3 or every.shape[2] != 2:
            raise ValueError(f"the steps since the last record have shape {tuple(every.shape)}, not (R, T, 2)")
        self.steps = list(every[rank()] if len(every) == size() else every.mean(0))


def build_plan(
    arguments: argparse.Namespace, device: torch.device, weights: Mapping[str, Tensor] | None = None
) -> Plan:
    """Data, program, objective, optimizers, each checked against the others.

    Arguments:
        weights: of the checkpoint from which the run goes on, if it does.

    Raises:
        ValueError, LookupError, OSError: bad input.
    """
    data, valid = _data(arguments)
    program = build_program(arguments.program, arguments.set, data, arguments.seed, weights).to(device)
    data = data.to(device)
    part = (rank(), size())
    if (batch_size := min(arguments.batch_size, len(data))) < arguments.batch_size:
        say(f"--batch-size {arguments.batch_size} is more than the {len(data)} data: all of them are one batch")
    epochs = Epochs(data, batch_size, seed=arguments.seed, device=device, part=part)
    x = _first_batch(epochs)
    with default_data_told(arguments, arguments.program):
        check_data(program, data, x)
    try:
        loss = build_training_loss(arguments, program, data, x)
    except ValueError as error:
        raise ValueError(after_default_data(arguments, arguments.program, str(error))) from error
    pair = _checked_pair(program, x)
    if pair is not None and (fault := _many_refused(pair, x)):
        say(f"it can be trained, but pplvm evaluate, compare and objectives of many particles will refuse it: {fault}")
    optimizers = build_optimizers(arguments, loss, x)
    averaged = build_averaged(arguments.average, loss)
    stepper = Stepper(
        parallel(Compiled(loss, arguments.compile, arguments.steps, say), x),
        optimizers,
        build_schedulers(arguments.schedule, optimizers, arguments.steps),
        arguments.clip,
        averaged,
    )
    stopping, since = EarlyStopping(arguments.early_stop), SinceLast()
    parts: dict[str, Any] = {"stopping": stopping, "since": since}
    aggressive, fresh = None, None
    if arguments.aggressive:
        fresh = Epochs(data, batch_size, seed=arguments.seed + FRESH_SEED, device=device, part=part)
        aggressive = Aggressive(fresh)
        parts |= {"aggressive": aggressive, "fresh": fresh}
    run = Run(stepper, epochs, aggressive or Stepper.__call__, parts)
    seed_all(seed_of_rank(arguments.seed))
    return Plan(arguments, loss, averaged, run, epochs, stopping, since, aggressive, valid, x, pair, fresh)


def _data(arguments: argparse.Namespace) -> tuple[ImageData, ImageData | None]:
    """What is trained on and, of a training split that has one, what validates it."""
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


def _first_batch(epochs: Epochs) -> Tensor:
    state = epochs.state_dict()
    x = next(epochs)
    epochs.load_state_dict(state)
    return x


def _checked_pair(program: nn.Module, x: Tensor) -> Pair | None:
    was_training = program.training
    try:
        return pair_up(program.eval().model, program.guide, (x,), {})
    except ProgramError:
        return None
    finally:
        program.train(was_training)


def _many_refused(pair: Pair, x: Tensor) -> str | None:
    """Why many particles at once are refused, to be told before hours are spent on a program; None if they are not."""
    try:
        return particles_disagree(pair, (x,), {})
    except (ProgramError, torch.OutOfMemoryError):  # told where they are met
        return None
