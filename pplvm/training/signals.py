"""SIGINT, SIGTERM and SIGHUP as requests to stop: the present step is finished and a checkpoint saved."""

import os
import signal
import stat
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest"]


class StopRequest:
    """Within this context the first signal is only noted; a second one ends the process.

    A second SIGHUP does not: a terminal that is closed sends several, and what is written to it fails from then on, so
    it is let go of. A process under nohup ignores SIGHUP, and goes on doing so.

    Arguments:
        signals: that are noted; all three if none is named.

    Example:
        >>> with StopRequest() as request:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     request.exit_code
        143
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.signals = signals or (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells define it; 0 without a signal."""
        return 128 + self.received if self.received is not None else 0

    def __enter__(self) -> "StopRequest":
        heeded = [each for each in self.signals if each != signal.SIGHUP or not _is_ignored(each)]
        self._before = {each: signal.signal(each, self._note) for each in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if number == signal.SIGHUP:
            _leave_terminal()
        for each in self._before:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)

    def _restore(self) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def _leave_terminal() -> None:
    """Redirect standard output and error to nowhere, if they are a terminal that may be closed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):  # a terminal that is closed calls itself none
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
