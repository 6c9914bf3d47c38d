"""Options of `pplvm compare`."""

import argparse

from pplvm.commands.options.option_types import at_least, positive
from pplvm.commands.options.parser import Parser, Repeated
from pplvm.commands.options.shared_options import (
    add_data,
    add_device,
    add_output,
    add_seed,
    add_settings,
    add_trust,
    finish,
)

__all__ = ["add_compare"]

EXAMPLES = (
    "pplvm compare --estimators rloo,vimco,pyro-renyi --particles 8 --steps 2000",
    "pplvm compare --program my_story.py --data my_data.npz --key x",
    "pplvm compare --checkpoint runs/mine",
)


def add_compare(commands: "argparse._SubParsersAction[Parser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="compare gradient estimators: bias, variance, cost",
        usage="pplvm compare [OPTION ...]",
        description="Compare gradient estimators of a program at fixed parameters, on fixed batches.\n"
        "To share out the replicates put `torchrun --nproc-per-node N -m` in front.",
        examples=EXAMPLES,
    )
    program = compare.add_argument_group("program and data")
    program.add_argument(
        "--program",
        action=Repeated,
        default=["sigmoid-belief-net"],
        help="name, my_story.py or module:Name; may repeat [sigmoid-belief-net]",
    )
    add_settings(program)
    add_data(program, batch_size=100)
    _add_estimators(compare.add_argument_group("estimators"))
    _add_measurement(compare.add_argument_group("measurement"))
    _add_checkpoints(compare.add_argument_group("checkpoints: training before the comparison, or runs and files"))
    add_output(compare.add_argument_group("output"), "runs/compare-DATE-TIME", "a comparison")
    machine = compare.add_argument_group("machine")
    machine.add_argument(
        "--compile", default="auto", choices=("auto", "off", "graph", "inductor"), metavar="TIER",
        help="draw replicates in chunks through each estimator's graph: auto (where that pays), off, graph, inductor "
        "[%(default)s]",
    )  # fmt: skip
    add_device(machine)
    add_seed(machine)
    finish(compare, "pplvm.commands.compare")


def _add_estimators(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--estimators",
        metavar="NAMES",
        help="comma-separated names or module:Name, each NAME@setting=value@...; a number after a comma belongs to the "
        "setting before it, rloo,tvo@partition=0,0.5,1,vimco; default: every legal one, but for mere variations "
        "(pplvm list objectives)",
    )
    work = group.add_mutually_exclusive_group()
    work.add_argument(
        "--particles",
        type=at_least(1),
        default=4,
        metavar="K",
        help="particles of estimators that have them [%(default)s]",
    )
    work.add_argument(
        "--budget",
        type=at_least(1),
        metavar="N",
        help="instead of one K: the largest K of each that costs at most N likelihood evaluations a datum",
    )
    group.add_argument(
        "--sweep", default="K=1,4,16", help="numbers of particles for signal-to-noise; '' for none [%(default)s]"
    )


def _add_measurement(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--minibatches", type=at_least(1), default=4, metavar="N", help="fixed minibatches [%(default)s]"
    )
    group.add_argument(
        "--replicates",
        type=at_least(2),
        default=80,
        metavar="N",
        help="gradients of each estimator on a minibatch [%(default)s]",
    )
    group.add_argument(
        "--reference-draws", type=at_least(2), default=250, metavar="N",
        help="gradients averaged into a minibatch's reference where none is exact [%(default)s]",
    )  # fmt: skip
    group.add_argument(
        "--sweep-replicates",
        type=at_least(2),
        default=30,
        metavar="N",
        help="gradients of each estimator at a K [%(default)s]",
    )
    group.add_argument(
        "--kept",
        type=at_least(2),
        default=80,
        metavar="N",
        help="replicates of a minibatch that are stored [%(default)s]",
    )
    group.add_argument(
        "--noise", default="independent", choices=("independent", "antithetic", "sobol"), metavar="HOW",
        help="how the --points of a replicate are laid out: independent, antithetic, sobol [%(default)s]",
    )  # fmt: skip
    group.add_argument(
        "--points",
        type=at_least(1),
        metavar="N",
        help="a gradient is the mean over so many draws [1, antithetic 2, sobol 8]",
    )
    group.add_argument(
        "--own-noise", action="store_true", help="independent noise for each estimator, no common random numbers"
    )


def _add_checkpoints(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--steps", help="optimizer steps, 0 for fresh; 0,500 measures at both [500, or none if --checkpoint is given]"
    )
    group.add_argument(
        "--checkpoint",
        action=Repeated,
        default=[],
        metavar="RUN",
        help="a run of pplvm fit, its program and data too, or a FILE of torch.save(program.state_dict(), FILE); "
        "may repeat",
    )
    add_trust(group)
    group.add_argument(
        "--objective",
        help="objective to train with; default: the program's own, else pathwise where legal, else rloo",
    )
    group.add_argument(
        "--learning-rate", type=positive, default=3e-3, metavar="RATE", help="learning rate of Adam [%(default)s]"
    )
