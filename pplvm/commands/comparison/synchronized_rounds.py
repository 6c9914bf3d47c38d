"""Rounds of work with a progress bar; ranks synchronize after each round."""

import signal
from collections.abc import Iterable, Iterator
from types import TracebackType

from pplvm.distributed.object_collectives import errors_on_all_ranks
from pplvm.distributed.progress import bar
from pplvm.distributed.ranks import size
from pplvm.training.signals import StopRequest

__all__ = ["Rounds"]


class Rounds:
    """Runs rounds so that all ranks stop after the same one, where any fails or gets Ctrl-C."""

    def __init__(self) -> None:
        self._request = StopRequest(signal.SIGINT)
        self._waits = size() > 1

    def __enter__(self) -> "Rounds":
        if self._waits:
            self._request.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._waits:
            self._request.__exit__(kind, error, traceback)

    def shown(self, what: str, rounds: Iterable[int], total: int) -> Iterator[int]:
        """Iterate over the rounds, as many on each rank, with the first rank's progress on stderr.

        Arguments:
            rounds: each tells how much of the total is done.

        Raises:
            KeyboardInterrupt: one of several processes got Ctrl-C.
        """
        with bar(what, total, shown=True) as progress:
            for done in self._in_step(iter(rounds)):
                progress.at(done)
                yield done

    def _in_step(self, rounds: Iterator[int]) -> Iterator[int]:
        while True:
            with errors_on_all_ranks():
                done = next(rounds, None)
                if self._request.received is not None:
                    raise KeyboardInterrupt
            if done is None:
                return
            yield done
