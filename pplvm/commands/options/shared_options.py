"""Options that several commands share: program, data, device, trust."""

import argparse
from collections.abc import Sequence
from typing import Any

from pplvm.commands.options.option_types import at_least, names

__all__ = [
    "SPLITS",
    "add_data",
    "add_device",
    "add_output",
    "add_seed",
    "add_settings",
    "add_trust",
    "data_options",
    "finish",
]

LARGEST_SEED = 10**12
"""Streams of replicates are told apart by multiples of the seed, which must fit in 63 bits."""

SPLITS = ("train", "valid", "test")


def add_settings(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the program, as latent_size=20 (pplvm list programs); may repeat",
    )


def add_data(group: argparse._ActionsContainer, batch_size: int) -> None:
    """Add options for the data set, how its values are read, and the batch size."""
    group.set_defaults(data_given=False)
    group.add_argument(
        "--data", action=_Given, default="digits", help="name, .npy, .npz, .csv, folder, or module:Name [%(default)s]"
    )
    group.add_argument("--data-root", metavar="DIR", help="where mnist, fashion-mnist and binarized-mnist lie")
    group.add_argument("--download", action="store_true", help="let torchvision download what is missing")
    group.add_argument("--key", help="the data's array in an .npz, or entry in items that are dicts")
    group.add_argument("--test-key", metavar="KEY", help="the test set's array in an .npz, beside --key")
    group.add_argument("--valid-key", metavar="KEY", help="the validation set's array, likewise")
    group.add_argument(
        "--split", default="train", choices=SPLITS, metavar="SPLIT", help="train, valid, test [%(default)s]"
    )
    group.add_argument(
        "--levels", type=at_least(2, 2**16), metavar="N", help="number of grey levels, stored as 0 to N-1 [found]"
    )
    group.add_argument(
        "--values", choices=("grey", "integer", "real"), metavar="KIND",
        help="stored numbers are grey, integer (counts, classes) or real [found]",
    )  # fmt: skip
    group.add_argument(
        "--binarize", choices=("static", "dynamic", "none"), metavar="HOW",
        help="grey pixels: static (threshold), dynamic (anew each epoch), none [static: digits]",
    )  # fmt: skip
    group.add_argument(
        "--condition", type=names, metavar="NAME",
        help="what the program gets beside x, model(x, y): labels, or arrays of an .npz, as labels,mask",
    )  # fmt: skip
    group.add_argument(
        "--known-labels", type=at_least(1), metavar="N",
        help="train with N labels, as evenly as can be; the others are -1",
    )  # fmt: skip
    group.add_argument("--batch-size", type=at_least(1), default=batch_size, metavar="B", help="[%(default)s]")


class _Given(argparse.Action):
    """An argparse action that stores a value, and as NAME_given that it was given."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, **options)

    def __call__(self, parser: argparse.ArgumentParser, found: argparse.Namespace, value: Any, *rest: object) -> None:
        setattr(found, self.dest, value)
        setattr(found, f"{self.dest}_given", True)


def data_options() -> list[str]:
    """The names of all options for data, without split and batch size."""
    parser = argparse.ArgumentParser(add_help=False)
    add_data(parser, batch_size=1)
    return [name for name in vars(parser.parse_args([])) if name not in ("data_given", "split", "batch_size")]


def add_seed(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--seed", type=at_least(0, LARGEST_SEED), default=0, help="seed of all random numbers [%(default)s]"
    )


def add_output(group: argparse._ActionsContainer, default: str, what: str) -> None:
    group.add_argument("--output", metavar="DIR", help=f"[{default}]")
    group.add_argument("--overwrite", action="store_true", help=f"replace {what} that is there")


def add_device(group: argparse._ActionsContainer) -> None:
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 [%(default)s]")


def add_trust(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="run this module's code, if a run names it; may repeat",
    )


def finish(command: argparse.ArgumentParser, handler: str) -> None:
    """Add the options of every command, and the module whose `run` handles it."""
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(handler=handler)
