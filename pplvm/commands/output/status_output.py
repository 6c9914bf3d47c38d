"""Status output of commands: lines on stderr beside the results."""

from pplvm.distributed.progress import write
from pplvm.distributed.ranks import is_first

__all__ = ["print_status"]


def print_status(words: str) -> None:
    """Print a line on stderr, above the progress bar, on the first rank only."""
    if is_first():
        write(words)
