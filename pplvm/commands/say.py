"""What a command tells beside its results: lines on stderr."""

import sys

from tqdm import tqdm

from pplvm.distributed import is_first

__all__ = ["say"]


def say(words: str) -> None:
    """A line on stderr, above the progress bar, from one process."""
    if is_first():
        tqdm.write(words, file=sys.stderr)
