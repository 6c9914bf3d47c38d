"""The command line: words in, exit code out; nothing heavy is imported before a command needs it.

Exit codes: 0 done, 1 a fault of pplvm or of the user's code, 2 bad input, 3 numbers that are no numbers,
129 hung up, 130 interrupted, 143 terminated.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence

from pplvm.commands.complaint import complain, lost_peer
from pplvm.commands.options import build_parser

__all__ = ["main"]

LONGEST = 2000
"""Characters of a complaint, which may name a value of any length."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the entry point of `pplvm`."""
    words = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help()
        return 2
    name = f"pplvm {arguments.command}"
    try:
        if getattr(arguments, "config", None) or getattr(arguments, "resume", None):
            from pplvm.commands.config import with_config

            arguments = with_config(parser, arguments, words)
        if getattr(arguments, "checkpoint", None):
            from pplvm.commands.compared_runs import with_runs

            arguments = with_runs(parser, arguments, words)
        if arguments.command in ("check", "compare", "fit", "verify"):
            from pplvm.commands.own_code import with_import_paths

            with_import_paths(arguments)
        code = importlib.import_module(arguments.handler).run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        complain(f"{name}: interrupted before anything was finished")
        return 130
    except Exception as error:
        if arguments.debug:
            raise
        reason = _reason(error)
        if isinstance(error, FloatingPointError):
            code = 3
        elif isinstance(error, ValueError | OSError) or type(error) is LookupError:
            code = 2
        else:
            code = 1
            reason = lost_peer(error) or f"{type(error).__name__}: {reason} (--debug shows where)"
        complain(f"{name}: {reason}")
        return code


def _reason(error: Exception) -> str:
    """What an exception says, in one line, without the tensors and traces that Pyro adds."""
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    said = said.partition("Trace Shapes:")[0].partition(", but found invalid values")[0]
    said = " ".join(said.split()) or "no reason given"
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 300]} ... {said[-300:]}"
