"""An argparse parser with one-line errors, one line of usage, and examples below the help."""

import argparse
import re
import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from pplvm.commands.output.error_output import print_error

__all__ = ["Parser", "Repeated", "Version"]


class Parser(argparse.ArgumentParser):
    """An argparse parser that prints one-line errors and points to --help.

    Arguments:
        examples: command lines, shown under the help.
        options: of `argparse.ArgumentParser`.
    """

    def __init__(self, *, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**({"formatter_class": _HelpFormatter} | options))
        if examples:
            self.epilog = "\n".join(["examples:", *(f"  {example}" for example in examples)])

    def error(self, message: str) -> NoReturn:
        if found := re.fullmatch(r"(argument \S+: invalid choice: '(.*)') \(choose from (.*)\)", message, re.DOTALL):
            close = get_close_matches(found[2], re.findall(r"[\w-]+", found[3]), n=1)
            message = f"{found[1]}, did you mean {close[0]!r}?" if close else message
        print_error(f"{self.prog}: {message} (see {self.prog} --help)")
        self.exit(2)

    def parse_args(self, words: Any = None, found: Any = None) -> Any:
        """As argparse's, but suggest the closest option for one that does not exist."""
        found, unknown = self.parse_known_args(words, found)
        if unknown:
            command = f"{self.prog} {found.command}"
            hint = _hint(unknown[0].partition("=")[0], found)
            print_error(f"{command}: unrecognized arguments: {' '.join(unknown)}{hint} (see {command} --help)")
            self.exit(2)
        return found


def _hint(word: str, found: argparse.Namespace) -> str:
    """Suggest what an unknown word may have meant."""
    options = [
        "--" + name.replace("_", "-") for name in vars(found) if name not in ("command", "data_given", "handler")
    ]
    if word in options:
        return f", {found.command} takes it without {word}"
    if not word.startswith("-") and "--program" in options:
        runs = f", or a run by --checkpoint {word}" if "--checkpoint" in options else ""
        return f", name a program by --program {word}{runs}"
    if word in ("--condition", "--known-labels") and found.command in ("evaluate", "sample"):
        return f", {found.command} takes its conditions from the run"
    close = get_close_matches(word, options, n=1)
    return f", did you mean {close[0]}?" if close else ""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """A help formatter with a wide column of options and with descriptions kept as written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(shutil.get_terminal_size((100, 24)).columns - 2, 110))


class Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=options.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        from importlib.metadata import version

        parser.exit(0, f"pplvm {version('pplvm')}\n")


class Repeated(argparse.Action):
    """As the action "append", but the first value given replaces the default."""

    def __call__(self, parser: argparse.ArgumentParser, found: argparse.Namespace, value: str, *rest: object) -> None:
        before = getattr(found, self.dest)
        setattr(found, self.dest, [value] if before is self.default else [*before, value])
