"""The parser of the command line: every option of every command, without heavy imports."""

import argparse

from pplvm.commands.options.compare_options import add_compare
from pplvm.commands.options.evaluate_options import add_evaluate
from pplvm.commands.options.fit_options import add_fit
from pplvm.commands.options.option_types import at_least, positive
from pplvm.commands.options.parser import Parser, Version
from pplvm.commands.options.shared_options import (
    SPLITS,
    add_data,
    add_device,
    add_output,
    add_seed,
    add_settings,
    add_trust,
    finish,
)

__all__ = ["build_parser"]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; `arguments.handler` names the module whose `run` is called."""
    parser = Parser(
        prog="pplvm",
        usage="pplvm COMMAND [OPTION ...]",
        description="Deep latent variable models as Pyro programs: train and judge them, compare\n"
        "gradient estimators. `pplvm COMMAND --help` has its options and examples.",
        examples=(
            "pplvm list",
            "pplvm fit --program vae --output runs/mine",
            "pplvm evaluate runs/mine",
            "pplvm compare --program sigmoid-belief-net",
        ),
    )
    parser.add_argument("--version", action=Version, help="print the version")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=Parser, title="commands", prog="pplvm"
    )
    add_fit(commands)
    add_evaluate(commands)
    _add_sample(commands)
    add_compare(commands)
    _add_check(commands)
    _add_verify(commands)
    _add_list(commands)
    return parser


def _add_list(commands: "argparse._SubParsersAction[Parser]") -> None:
    listing = commands.add_parser(
        "list",
        help="show programs, objectives and data sets by name",
        usage="pplvm list [KIND] [OPTION ...]",
        description="Show the names that the other commands know, the programs with what --set takes.",
        examples=("pplvm list programs", "pplvm list objectives"),
    )
    listing.add_argument(
        "kind", nargs="?", choices=("programs", "objectives", "data"), metavar="KIND",
        help="programs, objectives or data [all three]",
    )  # fmt: skip
    finish(listing, "pplvm.commands.listing")


def _add_sample(commands: "argparse._SubParsersAction[Parser]") -> None:
    sample = commands.add_parser(
        "sample",
        help="draw pictures from a trained program",
        usage="pplvm sample RUN [OPTION ...]",
        description="Draw from what pplvm fit left in a run directory: samples, reconstructions,\n"
        "interpolations and traversals as PNG grids, the samples also in samples.npz.",
        examples=("pplvm sample runs/mine --count 100",),
    )
    sample.add_argument("run", metavar="RUN", help="a directory that pplvm fit wrote")
    sample.add_argument(
        "--weights", default="latest", choices=("latest", "best"), metavar="WHICH", help="latest, best [%(default)s]"
    )
    sample.add_argument(
        "--split",
        default="test",
        choices=SPLITS,
        metavar="SPLIT",
        help="to reconstruct: train, valid, test [%(default)s]",
    )
    sample.add_argument("--count", type=at_least(1), default=64, metavar="N", help="samples of the prior [%(default)s]")
    sample.add_argument(
        "--label", type=at_least(0), metavar="N", help="of this class alone, if labels are given [each in turn]"
    )
    sample.add_argument(
        "--temperature", type=positive, default=1.0, metavar="T",
        help="multiply the standard deviation of normal latents, divide the logits of codes [%(default)s]",
    )  # fmt: skip
    sample.add_argument("--data-root", metavar="DIR", help="where the data lie, if elsewhere than in training")
    add_seed(sample)
    add_output(sample, "RUN/samples", "a folder of samples")
    add_device(sample)
    add_trust(sample)
    finish(sample, "pplvm.commands.sample")


def _add_check(commands: "argparse._SubParsersAction[Parser]") -> None:
    check = commands.add_parser(
        "check",
        help="run one batch of a program, show its sites and the rules that it breaks",
        usage="pplvm check [PROGRAM] [OPTION ...]",
        description="Run one batch of a program with validation on; show its sites and parameters,\n"
        "and what it breaks.",
        examples=("pplvm check vae", "pplvm check my_story.py --data my_data.npz --key x"),
    )
    check.add_argument(
        "program",
        nargs="?",
        default="sigmoid-belief-net",
        metavar="PROGRAM",
        help="name, my_story.py or module:Name [%(default)s]",
    )
    add_settings(check)
    add_data(check.add_argument_group("data"), batch_size=8)
    add_seed(check)
    finish(check, "pplvm.commands.check")


def _add_verify(commands: "argparse._SubParsersAction[Parser]") -> None:
    verify = commands.add_parser(
        "verify",
        help="test an estimator on tiny programs whose gradients are known",
        usage="pplvm verify ESTIMATOR [OPTION ...]",
        description="Enumerate an estimator's draws, or draw many, on tiny programs whose gradients\n"
        "are known; says unbiased, biased and by how much, or broken. Exit code 0 if\n"
        "unbiased wherever it applies, 1 if not.",
        examples=("pplvm verify rloo", "pplvm verify my_module:MyEstimator --particles 4"),
    )
    verify.add_argument("estimator", metavar="ESTIMATOR", help="name or module:Name, NAME@setting=value@...")
    verify.add_argument(
        "--particles", type=at_least(1), default=2, metavar="K", help="particles, draws for each datum [%(default)s]"
    )
    verify.add_argument(
        "--draws", type=at_least(60), default=120, metavar="N",
        help="gradients, each over 2,000 copies of a datum, where draws cannot be enumerated [%(default)s]",
    )  # fmt: skip
    finish(verify, "pplvm.commands.verify")
