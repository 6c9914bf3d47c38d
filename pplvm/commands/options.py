"""The words of the command line: every option of every command, and nothing heavy imported."""

import argparse

from pplvm.commands.compare_options import add_compare
from pplvm.commands.evaluate_options import add_evaluate
from pplvm.commands.fit_options import add_fit
from pplvm.commands.parser import Parser, Version
from pplvm.commands.shared_options import (
    SPLITS,
    add_data,
    add_device,
    add_output,
    add_seed,
    add_settings,
    add_trust,
    finish,
)
from pplvm.commands.values import at_least

__all__ = ["build_parser"]


def build_parser() -> argparse.ArgumentParser:
    """The parser; `arguments.handler` names the module whose `run` obeys."""
    parser = Parser(
        prog="pplvm",
        description="Deep latent variable models as Pyro programs.",
        examples=("pplvm compare", "pplvm fit --output runs/mine", "pplvm evaluate runs/mine", "pplvm fit --help"),
    )
    parser.add_argument("--version", action=Version, help="print the version")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    add_fit(commands)
    add_evaluate(commands)
    _add_sample(commands)
    add_compare(commands)
    _add_check(commands)
    _add_verify(commands)
    listing = commands.add_parser(
        "list", help="show programs, objectives and data sets", examples=("pplvm list", "pplvm list objectives")
    )
    listing.add_argument("kind", nargs="?", choices=("programs", "objectives", "data"), help="only these")
    finish(listing, "pplvm.commands.listing")
    return parser


def _add_sample(commands: "argparse._SubParsersAction[Parser]") -> None:
    sample = commands.add_parser(
        "sample",
        help="draw from a trained program: samples, reconstructions, interpolations, traversals",
        usage="pplvm sample RUN [OPTION ...]",
        description="Draw from what pplvm fit left in a run directory: PNG grids, and samples.npz.",
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
    sample.add_argument("--count", type=at_least(1), default=64, metavar="N", help="samples [%(default)s]")
    sample.add_argument("--data-root", metavar="DIR", help="where the data lie, if elsewhere than in training")
    add_seed(sample)
    add_output(sample, "RUN/samples", "samples")
    add_device(sample)
    add_trust(sample)
    finish(sample, "pplvm.commands.sample")


def _add_check(commands: "argparse._SubParsersAction[Parser]") -> None:
    check = commands.add_parser(
        "check",
        help="run one batch of a program, show its sites and what it breaks",
        usage="pplvm check [PROGRAM] [OPTION ...]",
        description="Run one batch of a program with validation on; show sites, parameters and violations.",
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
        help="prove an estimator on tiny programs whose gradients are known",
        usage="pplvm verify ESTIMATOR [OPTION ...]",
        description="Enumerate an estimator's draws, or draw many, on tiny programs whose gradients are known; says\n"
        "unbiased, biased and by how much, or broken. Exit code 0 if unbiased wherever it applies, 1 if not.",
        examples=("pplvm verify rloo", "pplvm verify my_module:MyEstimator --particles 4"),
    )
    verify.add_argument("estimator", metavar="ESTIMATOR", help="name or module:Name, NAME@setting=value@...")
    verify.add_argument("--particles", type=at_least(1), default=2, metavar="K", help="if it has it [%(default)s]")
    verify.add_argument(
        "--draws", type=at_least(60), default=120, metavar="N",
        help="gradients of 2,000 copies, where it draws [%(default)s]",
    )  # fmt: skip
    finish(verify, "pplvm.commands.verify")
