"""SIGINT and SIGTERM as a request: the step at hand is finished, and what is learned is saved."""

import signal
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest"]


class StopRequest:
    """Within it the first signal is only noted; a second one ends the process as if there were no request.

    Arguments:
        signals: that are noted; both if none is named.

    Example:
        >>> with StopRequest() as request:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     request.exit_code
        143
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.signals = signals or (signal.SIGINT, signal.SIGTERM)
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell has it; 0 if there was none."""
        return 128 + self.received if self.received is not None else 0

    def __enter__(self) -> "StopRequest":
        self._before = {each: signal.signal(each, self._note) for each in self.signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for each in self.signals:
            signal.signal(each, signal.SIG_DFL)

    def _restore(self) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)
