"""The hint that --data was not given, where a user's own program fails on the default data."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from pplvm.commands.building.program_checks import ConditionsError
from pplvm.particles.contract import NO_DENSITY, ParameterError

__all__ = ["default_data_hint", "with_default_data_hint"]

HINT = "the data are pplvm's own digits, 8x8 (--data was not given): name yours with --data"


@contextmanager
def default_data_hint(arguments: argparse.Namespace, program: str) -> Iterator[None]:
    """Prefix errors of a program on the default data with the hint that nobody chose these data.

    Not so where a parameter of a distribution is wrong, a negative scale say, or the program takes other conditions,
    which no other data would mend.

    Arguments:
        arguments: with `data_given`, whether --data was typed or stands in a configuration.
        program: its name; those of the catalog take the size of any data.

    Raises:
        ValueError: in place of the errors that data of another shape cause.

    Example:
        >>> with default_data_hint(argparse.Namespace(data_given=False), "my_story:Story"):
        ...     raise RuntimeError("shape '[8, 784]' is invalid for input of size 512")
        Traceback (most recent call last):
        ...
        ValueError: the data are pplvm's own digits, 8x8 (--data was not given): name yours with --data; on these: \
shape '[8, 784]' is invalid for input of size 512
    """
    try:
        yield
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        if any(isinstance(each, ParameterError | ConditionsError) for each in _causes(error)) or not _may_be_forgotten(
            arguments, program
        ):
            raise
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{HINT}; on these: {said}") from error


def with_default_data_hint(arguments: argparse.Namespace, program: str, sentence: str) -> str:
    """Prefix a broken rule with the hint on --data, where the program's shapes are not those of the data.

    Arguments:
        arguments, program: as for `default_data_hint`.
    """
    is_of_data = NO_DENSITY in sentence and _may_be_forgotten(arguments, program)
    return f"{HINT}; on these: {sentence}" if is_of_data else sentence


def _may_be_forgotten(arguments: argparse.Namespace, program: str) -> bool:
    return not getattr(arguments, "data_given", True) and ":" in program


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and the chain of errors that it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
