"""Builds the data set that the command line names: read, binarized and with conditions as its options say."""

__all__ = ["build_data"]

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from pplvm.catalog import DATASETS, find
from pplvm.commands.building.builders import data_for
from pplvm.commands.options.settings import call_with, split_settings
from pplvm.commands.output.status_output import print_status
from pplvm.data.binarization import binarize
from pplvm.data.files import from_array, from_dataset, from_folder, from_table
from pplvm.data.image_data import ImageData
from pplvm.data.tables import is_table


def build_data(arguments: argparse.Namespace, quiet: bool = False) -> ImageData:
    """Build the data set of --data, binarized as --binarize says; sets --binarize where it has no value yet.

    It has the conditions of --condition, and a channel where the program that --program names asks for one. The
    embedded digits are binarized by threshold unless --binarize says otherwise; others only if it says so.

    Arguments:
        quiet: do not tell how it is read, which was told already.

    Raises:
        ValueError, LookupError, FileNotFoundError: there is no such data, or it is damaged, or read otherwise.
    """
    if arguments.binarize is None:
        arguments.binarize = "static" if arguments.data == "digits" else "none"
    if _word(arguments.data) in DATASETS and (arguments.levels or arguments.values):
        raise ValueError(f"data set {arguments.data!r} has levels of its own: leave --levels and --values out")
    if arguments.values == "integer" and arguments.binarize != "none":
        raise ValueError(
            f"--values integer reads counts or classes as they are, and --binarize {arguments.binarize} takes them for "
            "grey levels: leave one of them out"
        )
    data = _named_data(arguments)
    for remark in () if quiet else data.remarks:
        print_status(remark)
    data = data if arguments.binarize == "none" else binarize(data, arguments.binarize, seed=arguments.seed)
    data = _conditioned(arguments, data)
    return data_for(arguments.program, data) if isinstance(arguments.program, str) else data  # others have several


def _conditioned(arguments: argparse.Namespace, data: ImageData) -> ImageData:
    """Add the conditions of --condition, and make all but --known-labels training labels unknown."""
    names = arguments.condition.split(",") if arguments.condition else []
    if (count := arguments.known_labels) is not None:
        if "labels" not in names:
            raise ValueError(f"--known-labels {count} is a number of labels to train with: add --condition labels")
        if arguments.split == "train":
            data = _told("--known-labels", count, lambda: data.with_known_labels(count, arguments.seed))
    return _told("--condition", arguments.condition, lambda: data.conditioned(*names)) if names else data


def _told(option: str, value: str | int, make: Callable[[], ImageData]) -> ImageData:
    """Prefix an error with the option that caused it."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{option} {value}: {error}") from error


def _named_data(arguments: argparse.Namespace) -> ImageData:
    name, split, path = arguments.data, arguments.split, Path(arguments.data)
    keys = {"key": arguments.key, "valid_key": arguments.valid_key, "test_key": arguments.test_key}
    reading = {"levels": arguments.levels, "values": arguments.values}
    if _word(name) in DATASETS:
        _refuse(keys, "is read by its name")
        return _known_data(arguments)
    if path.is_dir():
        return from_folder(path, split=split, **keys, **reading)
    if path.suffix.lower() in (".npy", ".npz"):
        return from_array(path, split=split, **keys, **reading)
    if is_table(path):
        _refuse(keys, "is a table, which holds no arrays by name")
        return from_table(path, split=split, **reading)
    if ":" not in name:
        return find("data set", DATASETS, name)
    key = keys.pop("key")
    _refuse(keys, "names its splits itself, in a mapping or by split= or train=")
    try:
        return from_dataset(name, split=split, key=key, **reading)
    except TypeError as error:
        raise ValueError(f"data set {name} cannot be made of {name}(), or read: {error}") from error


def _refuse(keys: Mapping[str, str | None], reason: str) -> None:
    """Refuse options that select arrays of a file, for data sets that are no file."""
    for option, key in keys.items():
        if key is not None:
            raise ValueError(
                f"--{option.replace('_', '-')} {key} has no meaning for --data that {reason}: leave it out"
            )


def _word(name: str) -> str:
    """A data set's name without the settings that may follow it."""
    return name.split("@")[0]


def _known_data(arguments: argparse.Namespace) -> ImageData:
    word, *settings = arguments.data.split("@")
    made_here = word in ("digits", "sprites")
    if not made_here and arguments.data_root is None:
        raise ValueError(f"data set {word!r} is read from files: say where with --data-root DIR")
    chosen = split_settings(settings)
    for name, option in (("split", "--split"), ("root", "--data-root"), ("download", "--download")):
        if name in chosen:
            raise ValueError(f"data set {word}: say {name} by {option}, and not as @{name}=")
    known = {"split": arguments.split, "root": arguments.data_root, "download": arguments.download}
    return call_with(find("data set", DATASETS, word), f"data set {word}", chosen, known)
