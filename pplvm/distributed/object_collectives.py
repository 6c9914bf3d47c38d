"""Collectives of Python objects, and errors that are raised on all ranks alike.

All ranks call these functions alike. One process has nobody to wait for: its values and errors are as they are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import distributed

from pplvm.distributed.collectives import any_rank
from pplvm.distributed.ranks import rank, size

__all__ = [
    "all_gather_errors",
    "all_gather_interleaved",
    "all_gather_object",
    "error_message",
    "errors_on_all_ranks",
    "rank_indices",
]

T = TypeVar("T")


def all_gather_object(value: T) -> list[T]:
    """All ranks' values in order, on each rank: anything picklable, its tensors on the CPU.

    Example:
        >>> all_gather_object("of one process")
        ['of one process']
    """
    if size() == 1:
        return [value]
    values: list[T] = [value] * size()
    distributed.all_gather_object(values, value)
    return values


def all_gather_interleaved(mine: list[T]) -> list[T]:
    """Gather what ranks computed round-robin (`my_rows`), in the original order, up to the first missing entry.

    Example:
        >>> all_gather_interleaved([1, 2, 3])
        [1, 2, 3]
    """
    hands = all_gather_object(mine)
    whole = []
    for place in range(sum(len(hand) for hand in hands)):
        hand, position = hands[place % len(hands)], place // len(hands)
        if position == len(hand):
            break
        whole.append(hand[position])
    return whole


def rank_indices(n: int) -> range:
    """This rank's indices of n, dealt round-robin, as many on each rank: the last may be n or more, and is padding.

    Example:
        >>> rank_indices(3)
        range(0, 3)
    """
    return range(rank(), n + rank(), size())


@contextmanager
def errors_on_all_ranks() -> Iterator[None]:
    """Raise an error inside this context on all ranks, if any rank fails, with the message of the first that does.

    The ranks meet as they leave. Inside, each is by itself, or they meet in what is itself in unison.

    Raises:
        KeyboardInterrupt, FloatingPointError, ValueError, LookupError, OSError: as it was on the rank that failed.
        RuntimeError: it was anything else. Where all ranks failed with the same words, each raises its own error.

    Example:
        >>> with errors_on_all_ranks():
        ...     print("done")
        done
    """
    if size() == 1:
        yield
        return
    error: BaseException | None = None
    try:
        yield
    except (KeyboardInterrupt, Exception) as caught:
        error = caught
    if not any_rank(error is not None):
        return
    told = all_gather_object(None if error is None else _kind_and_message(error))
    if error is not None and told.count(told[0]) == len(told):
        raise error
    first = next(r for r, words in enumerate(told) if words is not None)
    kind, words = told[first] or ("", "")
    raise KINDS.get(kind, RuntimeError)(f"rank {first}: {words}" if first else words) from error


def all_gather_errors(mine: Mapping[str, Exception]) -> dict[str, Exception]:
    """The named errors of all ranks, on each rank; for each name that of the first rank that failed.

    Example:
        >>> all_gather_errors({"a": KeyError("x")})
        {'a': KeyError('x')}
    """
    if size() == 1 or not any_rank(bool(mine)):
        return dict(mine)
    found: dict[str, Exception] = {}
    for number, told in enumerate(all_gather_object({name: _kind_and_message(error) for name, error in mine.items()})):
        for name, (kind, words) in told.items():
            found.setdefault(name, KINDS.get(kind, RuntimeError)(f"rank {number}: {words}" if number else words))
    return found


def error_message(error: BaseException) -> str:
    """An error's message in one line, with its type in front unless it is meant for the user.

    Example:
        >>> error_message(KeyError("x")), error_message(ValueError("no such thing"))
        ("KeyError: 'x'", 'no such thing')
    """
    return _kind_and_message(error)[1]


KINDS = {kind.__name__: kind for kind in (KeyboardInterrupt, FloatingPointError, ValueError, LookupError, OSError)}
"""What a command tells apart."""


def _kind_and_message(error: BaseException) -> tuple[str, str]:
    said = str(error).partition("Trace Shapes:")[0]  # which Pyro adds
    words = " ".join(said.split()) or "no reason given"
    for name, kind in KINDS.items():
        if type(error) is kind or (isinstance(error, kind) and kind is not LookupError):  # a KeyError is a fault
            return name, words
    return "RuntimeError", words if type(error) is RuntimeError else f"{type(error).__name__}: {words}"
