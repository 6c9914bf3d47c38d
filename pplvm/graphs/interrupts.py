"""A long computation that a signal ends at once, before the signal reaches whoever listens for it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "interruptible"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came; no kind of Exception, which a compiler may take for a fault of its own."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, a signal raises `Interrupted`; it is handled as ever once what ran within has been left.

    Raises:
        Interrupted: by SIGINT, SIGTERM or a SIGHUP that is not ignored, in the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append((number, frame))
        raise Interrupted(signal.Signals(number).name)

    heeded = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]  # as under nohup
    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, _ in received[:1]:
            signal.raise_signal(number)
