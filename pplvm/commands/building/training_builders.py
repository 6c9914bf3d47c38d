"""Builds the objective, optimizers, schedulers and averages of a training run from their options."""

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from pyro.infer import ELBO
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pplvm.batch import Batch, as_tuple
from pplvm.catalog import load
from pplvm.commands.building.builders import build_loss, takes_particles
from pplvm.commands.building.default_objective import objectives_for, penalized
from pplvm.commands.options.settings import split_settings
from pplvm.commands.output.status_output import print_status
from pplvm.data.image_data import ImageData
from pplvm.objectives.kl_balancing import KLBalancing
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.particles.side_effects import without_side_effects
from pplvm.training.optimizer_state import why_optimizer_cannot_step

__all__ = ["build_averaged", "build_optimizers", "build_schedulers", "build_training_loss", "learning_rates"]

FUSED = ("adam", "adamw", "adagrad", "sgd")
"""Optimizers that torch can run as one kernel, on the CPU too."""

OPTIMIZERS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "RMSprop", "SGD")

SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "cosine": lambda optimizer, steps, **k: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, **k),
    "linear": lambda optimizer, steps, **k: torch.optim.lr_scheduler.LinearLR(
        optimizer, **({"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps} | k)
    ),
    "exponential": lambda optimizer, steps, **k: torch.optim.lr_scheduler.ExponentialLR(optimizer, **k),
    "multistep": lambda optimizer, steps, **k: torch.optim.lr_scheduler.MultiStepLR(optimizer, **_milestones(k)),
}


def build_training_loss(arguments: argparse.Namespace, program: nn.Module, data: ImageData, x: Batch) -> Loss:
    """Build the loss of --objective with KL weights and penalties.

    By default the objective and the penalties are the program's own, `default_objective` and `default_penalties`; of a
    program without, pathwise where legal, else leave-one-out.

    Arguments:
        x: a batch on which it is tried, which leaves neither averages nor clocks nor the random state changed.

    Raises:
        ValueError, LookupError: there is no such objective, or it is not legal for the program.
    """
    if arguments.balance_kl and arguments.warmup is None:
        raise ValueError(
            "--balance-kl weighs KL terms while --warmup raises their weight: give --warmup STEPS too, or leave it out"
        )
    batch = as_tuple(x)
    names = objectives_for(program, arguments.objective)
    if arguments.particles is not None and ":" in names[0] and not takes_particles(names[0]):
        print_status(
            f"--particles {arguments.particles} sets nothing: {names[0]} takes no num_particles, or has it set already"
        )
    for name in names:
        plain = build_loss(name, arguments.particles if takes_particles(name) else None, program, data)
        try:
            objective = penalized(_weighed(plain.objective, arguments), program, arguments.penalty)
            loss = Loss(objective, program).to(batch[0].device)
            with without_side_effects(loss.train(), batch):
                loss(*batch)
            return loss
        except ObjectiveError as error:
            if name == names[-1]:
                raise ValueError(f"objective {name}: {error}") from error
    raise AssertionError("unreachable: the last name returns or raises")


def _weighed(objective: ELBO, arguments: argparse.Namespace) -> ELBO:
    """An objective with its KL terms weighted as --beta, --free-bits, --warmup and --balance-kl say."""
    if arguments.beta is not None:
        objective = Beta(objective, arguments.beta)
    if arguments.free_bits is not None:
        objective = FreeBits(objective, arguments.free_bits)
    if arguments.warmup is not None:
        objective = Warmup(objective, arguments.warmup)
    return KLBalancing(objective) if arguments.balance_kl else objective


def build_optimizers(arguments: argparse.Namespace, loss: Loss, x: Batch) -> dict[str, Optimizer]:
    """Build one optimizer for each part of the loss with parameters: model, guide, control variate.

    Raises:
        ValueError, LookupError: there is no such optimizer, or a setting that it does not take.
    """
    rates = learning_rates(arguments)
    return {
        part: _optimizer(arguments.optimizer, parameters, rates[part])
        for part, parameters in loss.parts(*as_tuple(x)).items()
        if parameters
    }


def learning_rates(arguments: argparse.Namespace) -> dict[str, float]:
    """The learning rate of each part."""
    return {
        "model": arguments.learning_rate,
        "guide": arguments.guide_learning_rate or arguments.learning_rate,
        "control": arguments.control_learning_rate or 10 * arguments.learning_rate,
    }


def _optimizer(words: str, parameters: list[nn.Parameter], rate: float) -> Optimizer:
    name, *settings = words.split("@")
    known = {each.lower(): each for each in OPTIMIZERS}
    if ":" in name:
        maker = load(name)
    elif name.lower() in known:
        maker = getattr(torch.optim, known[name.lower()])
    else:
        close = get_close_matches(name.lower(), list(known), n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise LookupError(f"unknown optimizer {name!r}{hint}: use {', '.join(known)}, or my_module:MyName")
    try:
        fused = {"fused": True} if name.lower() in FUSED else {}
        optimizer = maker(parameters, **{"lr": rate} | fused | split_settings(settings))
    except (TypeError, ValueError) as error:
        raise ValueError(f"--optimizer {words}: {str(error).splitlines()[0]}") from error
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"--optimizer {name} gives {type(optimizer).__name__}, no torch.optim.Optimizer")
    if reason := why_optimizer_cannot_step(optimizer):
        raise ValueError(f"--optimizer {words} cannot take the steps of such a run: {reason}")
    return optimizer


def build_schedulers(words: str, optimizers: dict[str, Optimizer], steps: int) -> list[LRScheduler]:
    """Build a scheduler for each optimizer; none for a constant rate.

    Arguments:
        steps: of the whole run, over which cosine and linear fall to zero.

    Raises:
        ValueError, LookupError: there is no such schedule, or a setting that it does not take.
    """
    name, *settings = words.split("@")
    if name == "constant" and not settings:
        return []
    if name not in SCHEDULES:
        close = get_close_matches(name, ["constant", *SCHEDULES], n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise LookupError(f"unknown schedule {words!r}{hint}: use constant, {', '.join(SCHEDULES)}")
    try:
        chosen = split_settings(settings)
        return [SCHEDULES[name](optimizer, steps, **chosen) for optimizer in optimizers.values()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"--schedule {words}: {str(error).splitlines()[0]}") from error


def _milestones(settings: dict[str, Any]) -> dict[str, Any]:
    """Milestones as the list that torch compares; a single number becomes a list of one."""
    found = settings.get("milestones", ())
    several = found if isinstance(found, tuple | list) else (found,)
    if not several or not all(isinstance(each, int) and each > 0 for each in several):
        raise ValueError("milestones must be steps, as in multistep@milestones=1000,2000@gamma=0.1")
    return settings | {"milestones": several}


def build_averaged(decay: float | None, loss: Loss) -> AveragedModel | None:
    """Build the exponential moving average of a loss with its buffers; `decay` lies between 0 and 1."""
    return None if decay is None else AveragedModel(loss, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
