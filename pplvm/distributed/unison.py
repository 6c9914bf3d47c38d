"""What ranks do in step: each learns what all have, and what fails on one fails on all, in the same words.

All ranks call these functions alike. One process has nobody to wait for: its values and errors are as they are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import distributed

from pplvm.distributed.collectives import any_rank
from pplvm.distributed.ranks import rank, size

__all__ = ["errors_of_any", "exchanged", "in_order", "in_unison", "turns", "words_of"]

T = TypeVar("T")


def exchanged(value: T) -> list[T]:
    """What each rank has, in their order, on each: anything that can be pickled, its tensors on the CPU.

    Example:
        >>> exchanged("of one process")
        ['of one process']
    """
    if size() == 1:
        return [value]
    values: list[T] = [value] * size()
    distributed.all_gather_object(values, value)
    return values


def in_order(mine: list[T]) -> list[T]:
    """All ranks' entries of what `my_rows` dealt out, in their order, up to the first that is missing.

    Example:
        >>> in_order([1, 2, 3])
        [1, 2, 3]
    """
    hands = exchanged(mine)
    whole = []
    for place in range(sum(len(hand) for hand in hands)):
        hand, position = hands[place % len(hands)], place // len(hands)
        if position == len(hand):
            break
        whole.append(hand[position])
    return whole


def turns(n: int) -> range:
    """This rank's numbers of n that are dealt out like cards, as many on each: the last may be n or more, and void.

    Example:
        >>> turns(3)
        range(0, 3)
    """
    return range(rank(), n + rank(), size())


@contextmanager
def in_unison() -> Iterator[None]:
    """Where what is done inside fails on one rank, it fails on all, with the first failing rank's words.

    The ranks meet as they leave. Inside, each is by itself, or they meet in what is itself in unison.

    Raises:
        KeyboardInterrupt, FloatingPointError, ValueError, LookupError, OSError: as it was on the rank that failed.
        RuntimeError: it was anything else. Where all ranks failed with the same words, each raises its own error.

    Example:
        >>> with in_unison():
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
    told = exchanged(None if error is None else _told(error))
    if error is not None and told.count(told[0]) == len(told):
        raise error
    first = next(r for r, words in enumerate(told) if words is not None)
    kind, words = told[first] or ("", "")
    raise KINDS.get(kind, RuntimeError)(f"rank {first}: {words}" if first else words) from error


def errors_of_any(mine: Mapping[str, Exception]) -> dict[str, Exception]:
    """What failed by name on any rank, on each: of several processes in the words of the first that failed with it.

    Example:
        >>> errors_of_any({"a": KeyError("x")})
        {'a': KeyError('x')}
    """
    if size() == 1 or not any_rank(bool(mine)):
        return dict(mine)
    found: dict[str, Exception] = {}
    for number, told in enumerate(exchanged({name: _told(error) for name, error in mine.items()})):
        for name, (kind, words) in told.items():
            found.setdefault(name, KINDS.get(kind, RuntimeError)(f"rank {number}: {words}" if number else words))
    return found


def words_of(error: BaseException) -> str:
    """What an error says in one line, with its type in front where that is a fault and no refusal.

    Example:
        >>> words_of(KeyError("x")), words_of(ValueError("no such thing"))
        ("KeyError: 'x'", 'no such thing')
    """
    return _told(error)[1]


KINDS = {kind.__name__: kind for kind in (KeyboardInterrupt, FloatingPointError, ValueError, LookupError, OSError)}
"""What a command tells apart."""


def _told(error: BaseException) -> tuple[str, str]:
    said = str(error).partition("Trace Shapes:")[0]  # which Pyro adds
    words = " ".join(said.split()) or "no reason given"
    for name, kind in KINDS.items():
        if type(error) is kind or (isinstance(error, kind) and kind is not LookupError):  # a KeyError is a fault
            return name, words
    return "RuntimeError", words if type(error) is RuntimeError else f"{type(error).__name__}: {words}"
