"""Handles Ctrl-C and SIGTERM of a command: at once during imports, as exceptions afterwards."""

import os
import signal

TYPE_CHECKING = False  # typing takes longer to import than all that is needed here
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Interruption"]

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Interruption:
    """Signal handlers that end the process with 130 (SIGINT) or 143 (SIGTERM), one line and no traceback.

    Until `begin` it ends where it stands: nothing is written yet, and a `KeyboardInterrupt` in the middle of an import
    may be swallowed by the library that is imported, or leave it in pieces. From then on the first signal is raised as
    `KeyboardInterrupt`, so that a command can write what is finished, and a second one ends the process.

    A signal that is ignored stays ignored, as SIGINT of a shell's background job. One of several processes leaves
    SIGTERM to torchrun once it works, which must not wait for a collective operation.

    Arguments:
        name: of the command in what is said.

    Example:
        >>> interruption = Interruption("pplvm fit")
        >>> interruption.take()
        >>> interruption.begin()
        >>> try:
        ...     signal.raise_signal(signal.SIGTERM)
        ... except KeyboardInterrupt:
        ...     print(interruption.words, interruption.exit_code)
        ... finally:
        ...     interruption.give_back()
        terminated 143
    """

    def __init__(self, name: str) -> None:
        self.name, self.is_working = name, False
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number; 130 where `KeyboardInterrupt` came without a signal."""
        return 128 + (self.received or signal.SIGINT)

    @property
    def words(self) -> str:
        return WORDS[self.received or signal.SIGINT]

    def take(self) -> None:
        """Install the signal handlers."""
        for each in WORDS:
            if (before := signal.getsignal(each)) != signal.SIG_IGN:
                self._before[each] = before
                signal.signal(each, self._heed)

    def begin(self) -> None:
        """Raise signals as exceptions from now on, as all imports are done."""
        self.is_working = True
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and signal.SIGTERM in self._before:
            signal.signal(signal.SIGTERM, self._before.pop(signal.SIGTERM))

    def give_back(self) -> None:
        """Restore the previous signal handlers."""
        for each, before in self._before.items():
            signal.signal(each, before)
        self._before = {}

    def _heed(self, number: int, frame: object) -> None:
        is_first, self.received = self.received is None, signal.Signals(number)
        if self.is_working and is_first:
            raise KeyboardInterrupt
        if os.environ.get("RANK", "0") == "0":
            when = "before it was done" if self.is_working else "before it began: nothing was written"
            os.write(2, f"{self.name}: {self.words} {when}\n".encode())
        os._exit(self.exit_code)
