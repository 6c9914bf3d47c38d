"""The entry point of the command line, `pplvm`."""

from pplvm.commands.entry_point import main

__all__ = ["main"]
