"""What a command tells beside its results: lines on stderr."""

from pplvm.distributed.progress import write
from pplvm.distributed.ranks import is_first

__all__ = ["say"]


def say(words: str) -> None:
    """A line on stderr, above the progress bar, from one process."""
    if is_first():
        write(words)
