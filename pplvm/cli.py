"""The command line: words in, exit code out; nothing heavy is imported before a command needs it.

Exit codes: 0 done, 1 a fault of pplvm or of the user's code, 2 bad input, 3 numbers that are no numbers,
130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


LARGEST_SEED = 10**12
"""Streams of replicates are told apart by multiples of the seed, which must fit in 63 bits."""


class _Parser(argparse.ArgumentParser):
    """One line of complaint, and the way to the help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the entry point of `pplvm`."""
    parser = _build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 2
    name = f"pplvm {arguments.command}"
    try:
        code = importlib.import_module(arguments.handler).run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{name}: interrupted before anything was finished", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug:
            raise
        reason = " ".join(str(error).split()) or "no reason given"
        if isinstance(error, FloatingPointError):
            code = 3
        elif isinstance(error, ValueError | LookupError | OSError):
            code = 2
        else:
            code = 1
            reason = f"{type(error).__name__}: {reason} (--debug shows where)"
        print(f"{name}: {reason}", file=sys.stderr)
        return code


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pplvm", description="Deep latent variable models as Pyro programs.")
    parser.add_argument("--version", action=_Version, help="print the version")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_compare(commands)
    _add_check(commands)
    _add_verify(commands)
    listing = commands.add_parser("list", help="show programs, objectives and data sets")
    listing.add_argument("kind", nargs="?", choices=("programs", "objectives", "data"), help="only these")
    _finish(listing, "pplvm.commands.listing")
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=options.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        from importlib.metadata import version

        parser.exit(0, f"pplvm {version('pplvm')}\n")


class _Repeated(argparse.Action):
    """Like "append", but what is given replaces the default."""

    def __call__(self, parser: argparse.ArgumentParser, found: argparse.Namespace, value: str, *rest: object) -> None:
        before = getattr(found, self.dest)
        setattr(found, self.dest, [value] if before is self.default else [*before, value])


def _add_compare(commands: "argparse._SubParsersAction[_Parser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="compare gradient estimators: bias, variance, cost",
        description="Compare gradient estimators of a program at frozen parameters on fixed minibatches.",
    )
    compare.add_argument(
        "--program",
        action=_Repeated,
        default=["sigmoid-belief-net"],
        help="name or module:Name; may repeat [sigmoid-belief-net]",
    )
    _add_program_and_data(compare, batch_size=100)
    group = compare.add_argument_group("estimators")
    group.add_argument(
        "--estimators",
        help="comma-separated names or module:Name, each NAME@setting=value@...; default: every legal "
        "one, but for mere variations (pplvm list objectives)",
    )
    work = group.add_mutually_exclusive_group()
    work.add_argument("--particles", type=_at_least(1), default=4, help="K of estimators that have it [%(default)s]")
    work.add_argument(
        "--budget",
        type=_at_least(1),
        metavar="EVALS",
        help="instead of one K: the largest K of each that costs at most so many likelihood evaluations a datum",
    )
    group.add_argument("--sweep", default="K=1,4,16", help="particles for signal-to-noise; '' for none [%(default)s]")
    group = compare.add_argument_group("measurement")
    group.add_argument("--minibatches", type=_at_least(1), default=4, help="fixed minibatches [%(default)s]")
    group.add_argument("--replicates", type=_at_least(2), default=80, help="gradients each, a minibatch [%(default)s]")
    group.add_argument("--sweep-replicates", type=_at_least(2), default=30, help="gradients each, a K [%(default)s]")
    group.add_argument("--kept", type=_at_least(2), default=80, help="replicates a minibatch kept singly [%(default)s]")
    group = compare.add_argument_group("checkpoints: training before the freeze, or files")
    group.add_argument(
        "--steps", help="optimizer steps, 0 for fresh; 0,500 measures at both [500, or none if --checkpoint is given]"
    )
    group.add_argument(
        "--checkpoint",
        action=_Repeated,
        default=[],
        metavar="FILE",
        help="written by torch.save(program.state_dict(), FILE); may repeat",
    )
    group.add_argument("--objective", help="to train with; default: pathwise where legal, else rloo")
    group.add_argument("--learning-rate", type=float, default=3e-3, help="of Adam [%(default)s]")
    group = compare.add_argument_group("output")
    group.add_argument("--output", help="run directory [runs/compare-DATE-TIME]")
    group.add_argument("--overwrite", action="store_true", help="write into a directory that exists")
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 [%(default)s]")
    _finish(compare, "pplvm.commands.compare")


def _add_check(commands: "argparse._SubParsersAction[_Parser]") -> None:
    check = commands.add_parser(
        "check",
        help="run one batch of a program, show its sites and what it breaks",
        description="Run one batch of a program with validation on; show sites, parameters and violations.",
    )
    check.add_argument("program", nargs="?", default="sigmoid-belief-net", help="name or module:Name [%(default)s]")
    _add_program_and_data(check, batch_size=8)
    _finish(check, "pplvm.commands.check")


def _add_verify(commands: "argparse._SubParsersAction[_Parser]") -> None:
    verify = commands.add_parser(
        "verify",
        help="prove an estimator on tiny programs whose gradients are known",
        description="Enumerate an estimator's draws, or draw many, on tiny programs whose gradients are known; says "
        "unbiased, biased and by how much, or broken. Exit code 0 if unbiased wherever it applies, 1 if not.",
    )
    verify.add_argument("estimator", help="name or module:Name, NAME@setting=value@...")
    verify.add_argument("--particles", type=_at_least(1), default=2, help="K, if it has it [%(default)s]")
    verify.add_argument(
        "--draws", type=_at_least(60), default=120, help="gradients of 2,000 copies, where it draws [%(default)s]"
    )
    _finish(verify, "pplvm.commands.verify")


def _add_program_and_data(command: argparse.ArgumentParser, batch_size: int) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the program, or of each; may repeat",
    )
    group = command.add_argument_group("data")
    group.add_argument("--data", default="digits", help="name, .npy, .npz, folder, or module:Name [%(default)s]")
    group.add_argument("--data-root", help="where mnist, fashion-mnist and binarized-mnist lie")
    group.add_argument("--download", action="store_true", help="let torchvision download what is missing")
    group.add_argument("--key", help="the array's name in an .npz")
    group.add_argument("--split", default="train", choices=("train", "valid", "test"), help="[%(default)s]")
    group.add_argument(
        "--binarize", default="static", choices=("static", "dynamic", "none"),
        help="grey pixels: by threshold, anew each epoch, or not at all [%(default)s]",
    )  # fmt: skip
    group.add_argument("--batch-size", type=_at_least(1), default=batch_size, help="[%(default)s]")
    command.add_argument("--seed", type=_at_least(0, LARGEST_SEED), default=0, help="[%(default)s]")


def _finish(command: argparse.ArgumentParser, handler: str) -> None:
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(handler=handler)


class _at_least:
    """A whole number from `least` up, to `most` if that is given."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self.least, self.most = least, most

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < self.least:
            raise argparse.ArgumentTypeError(f"must be at least {self.least}, got {value}")
        if self.most is not None and value > self.most:
            raise argparse.ArgumentTypeError(f"must be at most {self.most}, got {value}")
        return value
