"""`pplvm list`: prints the names that the command line knows."""

import argparse

from pplvm.catalog import DATASETS, OBJECTIVES, PROGRAMS
from pplvm.commands.options.signatures import settings_of_program

__all__ = ["run"]

COLUMN = 25
"""Where the summaries begin."""


def run(arguments: argparse.Namespace) -> int:
    """Print the catalog; imports nothing that it names."""
    kinds = {"programs": PROGRAMS, "objectives": OBJECTIVES, "data": DATASETS}
    shown = {arguments.kind: kinds[arguments.kind]} if arguments.kind else kinds
    for title, entries in shown.items():
        print(f"{title}:")
        for name, entry in entries.items():
            print(f"  {name:<{COLUMN - 3}} {entry.summary}")
            for setting in settings_of_program(entry.path) if title == "programs" else ():
                print(f"{'':{COLUMN}}--set {setting}")
    print("Your own: my_module:MyName, found from the current directory; data also by a path.")
    return 0
