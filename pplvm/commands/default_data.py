"""Where a user's own program fails on the default data, because --data was forgotten, that is said first."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["default_data_told"]

TOLD = "the data are pplvm's own digits, 8x8 (--data was not given): name yours with --data"


@contextmanager
def default_data_told(arguments: argparse.Namespace, program: str) -> Iterator[None]:
    """Whatever says within that a program cannot run on the data says first that nobody chose these data.

    Arguments:
        arguments: with `data_given`, whether --data was typed or stands in a configuration.
        program: its name; those of the catalog take the size of any data.

    Raises:
        ValueError: in place of the errors that data of another shape cause.

    Example:
        >>> with default_data_told(argparse.Namespace(data_given=False), "my_story:Story"):
        ...     raise RuntimeError("shape '[8, 784]' is invalid for input of size 512")
        Traceback (most recent call last):
        ...
        ValueError: the data are pplvm's own digits, 8x8 (--data was not given): name yours with --data; on these: \
shape '[8, 784]' is invalid for input of size 512
    """
    try:
        yield
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        if getattr(arguments, "data_given", True) or ":" not in program:
            raise
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{TOLD}; on these: {said}") from error
