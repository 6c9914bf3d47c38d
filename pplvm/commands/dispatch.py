"""Runs one command: parses its words, calls its handler and turns errors into one line and an exit code."""

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pplvm.commands.interruption import Interruption
from pplvm.commands.options.build_parser import build_parser
from pplvm.commands.output.error_output import lost_peer, print_error
from pplvm.commands.output.matplotlib_settings import agg_backend

__all__ = ["dispatch"]

LONGEST = 2000
"""Characters of a complaint, which may name a value of any length."""


PACKAGE = Path(__file__).parent.parent
"""Of pplvm, whose lines are no user's."""


def dispatch(words: Sequence[str], interruption: Interruption) -> int:
    """Parse a command line, run the command, and print what it raises as one line.

    Arguments:
        interruption: is told when all is imported; entered where the process's signals are pplvm's to handle.
    """
    parser = build_parser()
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help()
        return 2
    interruption.name = name = f"pplvm {arguments.command}"
    try:
        with agg_backend():
            code = _run(parser, arguments, words, interruption)
        sys.stdout.flush()
        return interruption.exit_code if code == 130 else code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _interrupted(interruption)
    except Exception as error:
        if interruption.received is not None:  # a library has swallowed what the signal raised, and stumbled over it
            return _interrupted(interruption)
        if arguments.debug:
            raise
        code, reason = _fault(error)
        print_error(f"{name}: {reason}")
        return code


def _run(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, words: Sequence[str], interruption: Interruption
) -> int:
    if getattr(arguments, "config", None) or getattr(arguments, "resume", None):
        from pplvm.commands.runs.config import with_config

        arguments = with_config(parser, arguments, words)
    if getattr(arguments, "checkpoint", None):
        from pplvm.commands.comparison.compare_runs import with_runs

        arguments = with_runs(parser, arguments, words)
    if arguments.command in ("check", "compare", "fit", "verify"):
        from pplvm.commands.runs.user_modules import with_import_paths

        with_import_paths(arguments)
    handler = importlib.import_module(arguments.handler)
    interruption.begin()
    return handler.run(arguments)


def _interrupted(interruption: Interruption) -> int:
    print_error(f"{interruption.name}: {interruption.words} before it was done")
    return interruption.exit_code


def _fault(error: Exception) -> tuple[int, str]:
    """The exit code of an exception, and its message in one line."""
    reason = _reason(error)
    if isinstance(error, FloatingPointError):
        return 3, reason
    if isinstance(error, ValueError | OSError) or type(error) is LookupError:
        return 2, reason
    return 1, lost_peer(error) or f"{type(error).__name__}: {reason} ({_place(error)}--debug shows all)"


def _place(error: BaseException | None) -> str:
    """The line of the user's own code that raised an exception; empty if none is in the current directory."""
    if error is None:
        return ""
    own = [
        f"{path.relative_to(Path.cwd())}, line {frame.lineno}; "
        for frame in traceback.extract_tb(error.__traceback__)
        if (path := Path(frame.filename)).is_relative_to(Path.cwd())
        and not path.is_relative_to(PACKAGE) and "site-packages" not in path.parts
    ]  # fmt: skip
    return own[-1] if own else _place(error.__cause__)


def _reason(error: Exception) -> str:
    """An exception's message in one line, without the tensors and traces that Pyro adds."""
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    said = said.partition("Trace Shapes:")[0].partition(", but found invalid values")[0]
    said = " ".join(said.split()) or "no reason given"
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 300]} ... {said[-300:]}"
