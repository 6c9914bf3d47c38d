"""The words of the command line: every option of every command, and nothing heavy imported."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from pplvm.commands.complaint import complain
from pplvm.commands.values import at_least, fraction, not_negative, positive

__all__ = ["build_parser"]

LARGEST_SEED = 10**12
"""Streams of replicates are told apart by multiples of the seed, which must fit in 63 bits."""


class _Parser(argparse.ArgumentParser):
    """One line of complaint, and the way to the help."""

    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {message} (see {self.prog} --help)")
        self.exit(2)

    def parse_args(self, words: Any = None, found: Any = None) -> Any:
        """As argparse has it, but an option that does not exist is told with the closest that does."""
        found, unknown = self.parse_known_args(words, found)
        if unknown:
            options = ["--" + name.replace("_", "-") for name in vars(found)]
            close = get_close_matches(unknown[0].partition("=")[0], options, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found


def build_parser() -> argparse.ArgumentParser:
    """The parser; `arguments.handler` names the module whose `run` obeys."""
    parser = _Parser(prog="pplvm", description="Deep latent variable models as Pyro programs.")
    parser.add_argument("--version", action=_Version, help="print the version")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_fit(commands)
    _add_evaluate(commands)
    _add_sample(commands)
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


def _add_fit(commands: "argparse._SubParsersAction[_Parser]") -> None:
    fit = commands.add_parser(
        "fit",
        help="train a program under an objective, with checkpoints",
        description="Train a program. For many processes put `torchrun --nproc-per-node N -m` "
        "in front. Ctrl-C finishes the step, saves, and --resume goes on as if nothing had been.",
    )
    fit.add_argument("--config", metavar="FILE", help="settings from a run's config.yaml; typed options win")
    fit.add_argument("--program", default="vae", help="name or module:Name [%(default)s]")
    _add_program_and_data(fit, batch_size=100)
    group = fit.add_argument_group("objective")
    group.add_argument(
        "--objective", help="name or module:Name, NAME@setting=value@...; default: pathwise where legal, else rloo"
    )
    group.add_argument("--particles", type=at_least(1), help="K [the objective's own]")
    group.add_argument("--beta", type=not_negative, help="weight of the KL terms [1]")
    group.add_argument("--free-bits", type=not_negative, metavar="NATS", help="KL of each latent that costs nothing")
    group.add_argument("--warmup", type=at_least(1), metavar="STEPS", help="raise the KL terms' weight from 0 to 1")
    group.add_argument(
        "--aggressive", action="store_true", help="train the guide to near convergence before each step of the model"
    )
    group = fit.add_argument_group("optimizer")
    group.add_argument(
        "--steps", type=at_least(1), default=2000, help="in all, those before --resume too [%(default)s]"
    )
    group.add_argument(
        "--optimizer", default="adam", help="of torch.optim, or module:Name, NAME@setting=value@... [%(default)s]"
    )
    group.add_argument("--learning-rate", type=positive, default=1e-3, help="[%(default)s]")
    group.add_argument("--guide-learning-rate", type=positive, help="[--learning-rate]")
    group.add_argument("--control-learning-rate", type=positive, help="of baselines and control variates [ten times]")
    group.add_argument(
        "--schedule", default="constant",
        help="of learning rates: constant, cosine, linear, exponential@gamma=G, multistep@milestones=(A,B)@gamma=G "
        "[%(default)s]",
    )  # fmt: skip
    group.add_argument("--clip", type=positive, metavar="NORM", help="largest norm of the gradient")
    group.add_argument(
        "--average", type=fraction, metavar="DECAY", help="evaluate and save running averages of the weights"
    )
    group = fit.add_argument_group("run")
    group.add_argument(
        "--compile", default="auto", choices=("auto", "off", "graph", "inductor"),
        help="run the loss as one graph, replayed or compiled by Inductor; auto compiles long runs [%(default)s]",
    )  # fmt: skip
    group.add_argument("--validate-every", type=at_least(1), default=500, help="steps [%(default)s]")
    group.add_argument(
        "--early-stop", type=at_least(1), metavar="LOOKS", help="stop after so many without a lower loss"
    )
    group.add_argument("--log-every", type=at_least(1), default=50, help="steps [%(default)s]")
    group.add_argument("--save-every", type=at_least(1), default=500, help="steps [%(default)s]")
    group.add_argument("--keep", type=at_least(1), default=2, help="checkpoints, beside the best [%(default)s]")
    group.add_argument("--output", help="run directory [runs/fit-DATE-TIME]")
    group.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    group.add_argument("--resume", metavar="RUN", help="go on with a run, its settings but for what is typed")
    group.add_argument(
        "--on-nan", default="stop", choices=("stop", "skip"),
        help="numbers that are not finite: stop, or leave the batch out, 10 times at most [%(default)s]",
    )  # fmt: skip
    group.add_argument("--tensorboard", action="store_true", help="metrics for TensorBoard too (pplvm[tensorboard])")
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 [%(default)s]")
    _add_trust(group)
    _finish(fit, "pplvm.commands.fit")


def _add_evaluate(commands: "argparse._SubParsersAction[_Parser]") -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="judge a trained program: log p(x), rate, information, pictures",
        description="Judge what pplvm fit left in one run directory, or compare several.",
    )
    evaluate.add_argument(
        "run", nargs="+", metavar="RUN", help="a directory that pplvm fit wrote; several are compared"
    )
    evaluate.add_argument(
        "--weights", default="latest", choices=("latest", "best"), help="which checkpoint [%(default)s]"
    )
    evaluate.add_argument("--split", default="test", choices=("train", "valid", "test"), help="[%(default)s]")
    evaluate.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N data of the split")
    evaluate.add_argument("--ks", default="1,10,100,1000,5000", help="particles of log p(x) [%(default)s]")
    evaluate.add_argument(
        "--annealed", type=at_least(0), default=20, metavar="N", help="data for AIS and BDMC, 0 for none [%(default)s]"
    )
    evaluate.add_argument("--chains", type=at_least(1), default=16, help="of AIS, each datum [%(default)s]")
    evaluate.add_argument("--annealing-steps", type=at_least(1), default=200, help="of AIS [%(default)s]")
    evaluate.add_argument(
        "--compile", default="auto", choices=("auto", "off", "graph", "inductor"),
        help="draw particles through one graph of the program; auto where that pays [%(default)s]",
    )  # fmt: skip
    evaluate.add_argument("--seed", type=at_least(0, LARGEST_SEED), default=0, help="[%(default)s]")
    evaluate.add_argument("--output", help="directory [RUN/evaluation-SPLIT]")
    evaluate.add_argument("--overwrite", action="store_true", help="replace an evaluation that is there")
    evaluate.add_argument("--data-root", help="where the data lie, if elsewhere than in training")
    evaluate.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 [%(default)s]")
    _add_trust(evaluate)
    _finish(evaluate, "pplvm.commands.evaluate")


def _add_sample(commands: "argparse._SubParsersAction[_Parser]") -> None:
    sample = commands.add_parser(
        "sample",
        help="draw from a trained program: samples, reconstructions, interpolations, traversals",
        description="Draw from what pplvm fit left in a run directory: PNG grids, and samples.npz.",
    )
    sample.add_argument("run", metavar="RUN", help="a directory that pplvm fit wrote")
    sample.add_argument(
        "--weights", default="latest", choices=("latest", "best"), help="which checkpoint [%(default)s]"
    )
    sample.add_argument(
        "--split", default="test", choices=("train", "valid", "test"), help="to reconstruct [%(default)s]"
    )
    sample.add_argument("--count", type=at_least(1), default=64, help="samples [%(default)s]")
    sample.add_argument("--seed", type=at_least(0, LARGEST_SEED), default=0, help="[%(default)s]")
    sample.add_argument("--output", help="directory [RUN/samples]")
    sample.add_argument("--overwrite", action="store_true", help="replace samples that are there")
    sample.add_argument("--data-root", help="where the data lie, if elsewhere than in training")
    sample.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 [%(default)s]")
    _add_trust(sample)
    _finish(sample, "pplvm.commands.sample")


def _add_trust(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--trust", action="append", default=[], metavar="MODULE", help="run code that a file names; may repeat"
    )


def _add_compare(commands: "argparse._SubParsersAction[_Parser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="compare gradient estimators: bias, variance, cost",
        description="Compare gradient estimators of a program at frozen parameters on fixed minibatches. To "
        "share out the replicates put `torchrun --nproc-per-node N -m` in front.",
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
    work.add_argument("--particles", type=at_least(1), default=4, help="K of estimators that have it [%(default)s]")
    work.add_argument(
        "--budget",
        type=at_least(1),
        metavar="EVALS",
        help="instead of one K: the largest K of each that costs at most so many likelihood evaluations a datum",
    )
    group.add_argument("--sweep", default="K=1,4,16", help="particles for signal-to-noise; '' for none [%(default)s]")
    group = compare.add_argument_group("measurement")
    group.add_argument("--minibatches", type=at_least(1), default=4, help="fixed minibatches [%(default)s]")
    group.add_argument("--replicates", type=at_least(2), default=80, help="gradients each, a minibatch [%(default)s]")
    group.add_argument("--sweep-replicates", type=at_least(2), default=30, help="gradients each, a K [%(default)s]")
    group.add_argument("--kept", type=at_least(2), default=80, help="replicates a minibatch kept singly [%(default)s]")
    group.add_argument(
        "--compile", default="auto", choices=("auto", "off", "graph", "inductor"),
        help="draw replicates in chunks through each estimator's graph; auto where that pays [%(default)s]",
    )  # fmt: skip
    group.add_argument(
        "--noise", default="independent", choices=("independent", "antithetic", "sobol"),
        help="how the --points of a replicate are laid out [%(default)s]",
    )  # fmt: skip
    group.add_argument(
        "--points",
        type=at_least(1),
        metavar="N",
        help="a gradient is the mean over so many draws [1, antithetic 2, sobol 8]",
    )
    group.add_argument("--own-noise", action="store_true", help="no common random numbers for the estimators")
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
    group.add_argument("--learning-rate", type=positive, default=3e-3, help="of Adam [%(default)s]")
    group = compare.add_argument_group("output")
    group.add_argument("--output", help="run directory [runs/compare-DATE-TIME]")
    group.add_argument("--overwrite", action="store_true", help="replace a comparison that is there")
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
    verify.add_argument("--particles", type=at_least(1), default=2, help="K, if it has it [%(default)s]")
    verify.add_argument(
        "--draws", type=at_least(60), default=120, help="gradients of 2,000 copies, where it draws [%(default)s]"
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
    group.add_argument("--batch-size", type=at_least(1), default=batch_size, help="[%(default)s]")
    command.add_argument("--seed", type=at_least(0, LARGEST_SEED), default=0, help="[%(default)s]")


def _finish(command: argparse.ArgumentParser, handler: str) -> None:
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(handler=handler)
