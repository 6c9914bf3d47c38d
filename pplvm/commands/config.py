"""A run's settings as a file, and a file as settings: `config.yaml` is what `--config` takes."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

__all__ = ["as_words", "read_config", "settings_of", "untrusted", "with_config"]

UNSAID = ("command", "config", "debug", "handler", "output", "overwrite", "resume", "trust", "version")
"""Options that say how to start, and not what is computed."""

NAMING_CODE = ("program", "objective", "data", "optimizer")
"""Options whose value may be an import path."""


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a run computes, as plain values."""
    return {name: value for name, value in vars(arguments).items() if name not in UNSAID}


def with_config(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, words: Sequence[str]
) -> argparse.Namespace:
    """The arguments with the settings of `--config FILE` or `--resume RUN` beneath what was typed.

    Raises:
        FileNotFoundError, ValueError: no such file, no such setting, or one that names code which nobody trusts.
    """
    path = Path(arguments.config) if arguments.resume is None else Path(arguments.resume) / "config.yaml"
    config = read_config(path)
    if arguments.resume is not None and (reason := untrusted(config, words, arguments.trust)):
        raise ValueError(f"{path}: {reason}")
    typed = list(words)[list(words).index(arguments.command) + 1 :]
    return parser.parse_args([arguments.command, *as_words(config, settings_of(arguments), path), *typed])


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a file that `pplvm fit` wrote, or a user.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no YAML mapping of names to plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: name a config.yaml that pplvm fit wrote")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} must hold settings as name: value, one a line")
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(each, dict | list) for each in values):
            raise ValueError(f"{path}: {name} must be a plain value or a list of such")
    return found


def as_words(config: Mapping[str, Any], known: Iterable[str], source: Path) -> list[str]:
    """Settings as the words of a command line, which argparse then checks as it checks typed ones.

    Raises:
        ValueError: there is no such option.

    Example:
        >>> as_words({"batch_size": 20, "set": ["a=1"], "key": None}, ["batch_size", "set", "key"], Path("c"))
        ['--batch-size=20', '--set=a=1']
    """
    words: list[str] = []
    for name, value in config.items():
        if name in UNSAID or name not in known:
            close = get_close_matches(name, list(known), n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{source}: there is no setting {name!r}{hint}")
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        elif value is not None:
            words += [f"{option}={each}" for each in (value if isinstance(value, list) else [value])]
    return words


def untrusted(config: Mapping[str, Any], typed: Sequence[str], trusted: Sequence[str]) -> str | None:
    """Why settings that came with a run must not be obeyed: they name code that the user has not; None if they may.

    Arguments:
        typed: the words of the command line; what they name themselves is trusted.
        trusted: modules, from --trust.

    Example:
        >>> untrusted({"program": "evil.code:Story"}, [], ["my_module"])
        "its program is evil.code:Story, which would run that module's code: if you trust it, add --trust evil.code"
        >>> untrusted({"program": "my_module:Story"}, [], ["my_module"])
    """
    for name in NAMING_CODE:
        value = str(config.get(name) or "")
        module, colon, _ = value.partition("@")[0].partition(":")
        was_typed = any(word.partition("=")[0] == f"--{name}" for word in typed)
        if colon and not was_typed and module not in trusted and module.split(".")[0] != "pplvm":
            return f"its {name} is {value}, which would run that module's code: if you trust it, add --trust {module}"
    return None
