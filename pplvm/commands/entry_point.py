"""The command line's entry point; heavy imports wait until a command needs them.

Exit codes: 0 done, 1 a fault of pplvm or of the user's code, 2 bad input, 3 numbers that are no numbers,
129 hung up, 130 interrupted, 143 terminated.
"""

import sys

TYPE_CHECKING = False  # typing itself takes longer to import than all that is needed to heed Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command; the entry point of `pplvm`.

    Arguments:
        argv: its words; by default those of this process, whose SIGINT and SIGTERM are handled then. In a notebook, or
            wherever words are given, signals stay as they are.
    """
    from pplvm.commands.interruption import Interruption

    interruption = Interruption("pplvm")
    if argv is None:
        interruption.take()
    try:
        from pplvm.commands.dispatch import dispatch

        return dispatch(sys.argv[1:] if argv is None else list(argv), interruption)
    finally:
        interruption.give_back()
