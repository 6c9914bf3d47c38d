"""Makes a long computation (compilation) end at once on a signal, before its usual handler runs."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "interruptible"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came; no Exception, which a compiler might take for an error of its own."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within this context a signal raises `Interrupted`; its usual handler runs after the context.

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
