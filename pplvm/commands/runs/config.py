"""Configuration files: `pplvm fit` writes config.yaml, and `--config` reads it."""

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from pplvm.commands.runs.trust import own_modules, remember, remembered

__all__ = ["as_argv", "read_config", "run_of", "settings_of", "trusted_config", "untrusted", "with_config"]

RUN = "run"
"""What a run calls itself in its config.yaml, beside its settings; its checkpoints' manifests say the same."""

NOT_STORED = (
    "command",
    "config",
    "data_given",
    "debug",
    "handler",
    "output",
    "overwrite",
    "resume",
    "trust",
    "version",
)
"""Options that say how to start, and not what is computed."""

LARGEST = 2**16
"""Bytes of a configuration: a hundred times what a run writes."""


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that decide what a run computes, as plain values."""
    return {name: value for name, value in vars(arguments).items() if name not in NOT_STORED}


def with_config(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, words: Sequence[str]
) -> argparse.Namespace:
    """Merge the settings of `--config FILE` or `--resume RUN` under those that were typed.

    Raises:
        FileNotFoundError, ValueError: no such file, no such setting, one that names code which nobody trusts, or
            options that --resume leaves no room for.
    """
    path = Path(arguments.config) if arguments.resume is None else _config_of_run(arguments)
    config = trusted_config(path, words, arguments.trust)
    for option in ("train", "penalty"):
        if getattr(arguments, option, None):
            config.pop(option, None)  # what is typed is another choice, and no part more
    typed = list(words)[list(words).index(arguments.command) + 1 :]
    return parser.parse_args([arguments.command, *as_argv(config, settings_of(arguments), path), *typed])


def _config_of_run(arguments: argparse.Namespace) -> Path:
    run = Path(arguments.resume)
    for option in ("config", "output", "overwrite", "initial"):
        if getattr(arguments, option):
            raise ValueError(f"--resume {run} goes on in {run} with its settings: leave --{option} out")
    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(f"there is no run in {run}: name a directory that pplvm fit wrote")
    return run / "config.yaml"


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a file that `pplvm fit` or a user wrote.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no YAML mapping of names to plain values.
    """
    return {name: value for name, value in _parsed(path).items() if name != RUN}


def trusted_config(path: Path, typed: Sequence[str], trusted: Sequence[str]) -> dict[str, Any]:
    """As `read_config`, but refuse code that the user has neither typed nor trusted, now or before for this run.

    What is trusted by name, all of it, is remembered for the run.

    Raises:
        As `read_config`. ValueError: it names code that the user has not.
    """
    found = _parsed(path)
    config = {name: value for name, value in found.items() if name != RUN}
    run = str(found[RUN]) if RUN in found and path.name == "config.yaml" else None
    if (reason := untrusted(config, typed, trusted)) and not remembered(path.parent, run, config):
        raise ValueError(f"{path}: {reason}")
    if trusted and untrusted(config, (), trusted) is None:  # not what is typed in its place
        remember(path.parent, run, config)
    return config


def run_of(path: Path) -> str | None:
    """The identifier of the run that wrote a config.yaml; None if the file has none.

    Raises:
        As `read_config`.
    """
    found = _parsed(path).get(RUN)
    return None if found is None else str(found)


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: name a config.yaml that pplvm fit wrote")
    try:
        found = _plain_yaml(path)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} must hold settings as name: value, one a line")
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        if not all(each is None or isinstance(each, str | int | float) for each in values):
            raise ValueError(f"{path}: {name} must be a plain value or a list of such, as pplvm fit writes it")
    return found


def _plain_yaml(path: Path) -> Any:
    """Parse a small, shallow YAML file without aliases, since a few aliases can expand to any size.

    Raises:
        ValueError, yaml.YAMLError, RecursionError: it is no such file.
    """
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"it has {size:,} bytes, and {LARGEST:,} are the most")
    text = path.read_text(encoding="utf-8")
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, *name, which are not followed: write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 2:
            raise ValueError("it has lists within lists")
    return yaml.safe_load(text)


def as_argv(config: Mapping[str, Any], known: Mapping[str, Any], source: Path) -> list[str]:
    """Turn settings into command-line words, which argparse then checks like typed ones.

    Arguments:
        known: values of all settings, which tell what is a flag and what may be repeated.

    Raises:
        ValueError: there is no such option, or it takes another kind of value.

    Example:
        >>> known = {"batch_size": 100, "set": [], "key": None, "aggressive": False}
        >>> as_argv({"batch_size": 20, "set": ["a=1"], "key": None, "aggressive": True}, known, Path("c"))
        ['--batch-size=20', '--set=a=1', '--aggressive']
    """
    words: list[str] = []
    for name, value in config.items():
        if name in NOT_STORED or name not in known:
            close = get_close_matches(name, list(known), n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{source}: there is no setting {name!r}{hint}")
        if reason := _unfit(value, known[name]):
            raise ValueError(f"{source}: {name} {reason}")
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        elif value is not None:
            words += [f"{option}={each}" for each in (value if isinstance(value, list) else [value])]
    return words


def _unfit(value: Any, usual: Any) -> str | None:
    """Why a value has the wrong type for a setting; None if it fits."""
    if isinstance(usual, bool) and not isinstance(value, bool):
        return f"must be true or false, got {value!r}"
    if isinstance(value, bool) and not isinstance(usual, bool):
        return f"must not be {str(value).lower()}, as YAML reads no, off, yes and on: put it in quotes"
    if isinstance(value, list) and not isinstance(usual, list):
        return f"takes one value, got {len(value)}"
    return None


def untrusted(config: Mapping[str, Any], typed: Sequence[str], trusted: Sequence[str]) -> str | None:
    """Why settings of a file must not be followed: they name code that the user has not; None if they may.

    Arguments:
        typed: the words of the command line; what they name themselves is trusted.
        trusted: modules, from --trust.

    Example:
        >>> untrusted({"program": "evil.code:Story"}, [], ["my_module"])
        "its program is evil.code:Story, which would run that module's code: if you trust it, add --trust evil.code"
        >>> untrusted({"program": "my_module:Story"}, [], ["my_module"])
    """
    for name, module in own_modules(config).items():
        if module not in trusted and not any(word.partition("=")[0] == f"--{name}" for word in typed):
            told = f"its {name} is {config[name]}, which would run that module's code"
            return f"{told}: if you trust it, add --trust {module}"
    return None
