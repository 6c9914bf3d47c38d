"""Options of `pplvm fit`."""

import argparse

from pplvm.commands.options.option_types import at_least, fraction, not_negative, penalty, positive
from pplvm.commands.options.parser import Parser
from pplvm.commands.options.shared_options import (
    add_data,
    add_device,
    add_output,
    add_seed,
    add_settings,
    add_trust,
    finish,
)

__all__ = ["add_fit"]

EXAMPLES = (
    "pplvm fit --program vae --objective iwae --particles 8 --output runs/mine",
    "pplvm fit --program my_story.py --data my_data.npz --key x",
    "pplvm fit --resume runs/mine --steps 5000",
)


def add_fit(commands: "argparse._SubParsersAction[Parser]") -> None:
    fit = commands.add_parser(
        "fit",
        help="train a program under an objective, with checkpoints",
        usage="pplvm fit [OPTION ...]",
        description="Train a program. Ctrl-C finishes the step, saves, and --resume goes on as if\n"
        "nothing had been. Many processes: torchrun --nproc-per-node N -m pplvm fit ...",
        examples=EXAMPLES,
    )
    program = fit.add_argument_group("program")
    program.add_argument("--program", default="vae", help="name, my_story.py or module:Name [%(default)s]")
    add_settings(program)
    add_data(fit.add_argument_group("data"), batch_size=100)
    _add_stage(fit.add_argument_group("stages"))
    _add_objective(fit.add_argument_group("objective"))
    _add_optimizer(fit.add_argument_group("optimizer"))
    _add_schedule(fit.add_argument_group("validation and checkpoints, in steps"))
    directory = fit.add_argument_group("run directory")
    add_output(directory, "runs/fit-DATE-TIME", "a run")
    directory.add_argument("--resume", metavar="RUN", help="resume a run with its settings; typed options win")
    directory.add_argument("--config", metavar="FILE", help="settings from a run's config.yaml; typed options win")
    add_trust(directory)
    _add_machine(fit.add_argument_group("machine"))
    finish(fit, "pplvm.commands.fit")


def _add_stage(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--initial", metavar="RUN", help="start from the weights of equal names of a run, or RUN/checkpoints/best"
    )
    group.add_argument(
        "--train", action="append", default=[], metavar="PART",
        help="train this module or parameter of the program, freeze the rest; may repeat",
    )  # fmt: skip


def _add_objective(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--objective",
        help="name or module:Name, NAME@setting=value@...; default: the program's own, or pathwise where "
        "legal, else rloo",
    )
    group.add_argument("--particles", type=at_least(1), metavar="K", help="number of particles [the objective's own]")
    group.add_argument("--beta", type=not_negative, help="weight of the KL terms [1]")
    group.add_argument(
        "--free-bits", type=not_negative, metavar="NATS", help="free bits: KL of each latent that costs nothing"
    )
    group.add_argument("--warmup", type=at_least(1), metavar="STEPS", help="raise the KL terms' weight from 0 to 1")
    group.add_argument(
        "--balance-kl", action="store_true", help="while --warmup lasts, weigh latents by their share of the KL"
    )
    group.add_argument(
        "--penalty", action="append", default=[], type=penalty, metavar="NAME=WEIGHT",
        help="minimise this deterministic site of the guide too, beside or in place of the program's own; may repeat",
    )  # fmt: skip
    group.add_argument(
        "--aggressive",
        action="store_true",
        help="train the guide to near convergence before each step of the model; with sgd, --clip 5",
    )


def _add_optimizer(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--steps", type=at_least(1), default=2000, help="total number of steps, those before --resume too [%(default)s]"
    )
    group.add_argument(
        "--optimizer", default="adam", help="of torch.optim, or module:Name, NAME@setting=value@... [%(default)s]"
    )
    group.add_argument("--learning-rate", type=positive, default=1e-3, metavar="RATE", help="[%(default)s]")
    group.add_argument("--guide-learning-rate", type=positive, metavar="RATE", help="[--learning-rate]")
    group.add_argument(
        "--control-learning-rate", type=positive, metavar="RATE", help="of baselines and control variates [ten times]"
    )
    group.add_argument(
        "--schedule", default="constant",
        help="of learning rates: constant, cosine, linear, exponential@gamma=G, multistep@milestones=A,B@gamma=G "
        "[%(default)s]",
    )  # fmt: skip
    group.add_argument("--clip", type=positive, metavar="NORM", help="largest norm of the gradient")
    group.add_argument(
        "--average", type=fraction, metavar="DECAY", help="evaluate and save running averages of the weights"
    )


def _add_schedule(group: argparse._ActionsContainer) -> None:
    group.add_argument("--validate-every", type=at_least(1), default=500, metavar="N", help="[%(default)s]")
    group.add_argument(
        "--early-stop", type=at_least(1), metavar="N", help="stop after so many validations without a lower loss"
    )
    group.add_argument("--log-every", type=at_least(1), default=50, metavar="N", help="[%(default)s]")
    group.add_argument("--save-every", type=at_least(1), default=500, metavar="N", help="[%(default)s]")
    group.add_argument(
        "--keep", type=at_least(1), default=2, metavar="N", help="checkpoints, beside the best [%(default)s]"
    )


def _add_machine(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--compile", default="auto", choices=("auto", "off", "graph", "inductor"), metavar="TIER",
        help="the loss as one graph, replayed (graph) or compiled (inductor), off, or auto: by the steps [%(default)s]",
    )  # fmt: skip
    add_device(group)
    add_seed(group)
    group.add_argument(
        "--on-nan", default="stop", choices=("stop", "skip"), metavar="HOW",
        help="numbers that are not finite: stop, or skip the batch, 10 times at most [%(default)s]",
    )  # fmt: skip
    group.add_argument("--tensorboard", action="store_true", help="metrics for TensorBoard too (pplvm[tensorboard])")
