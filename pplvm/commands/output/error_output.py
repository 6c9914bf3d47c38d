"""Error output of commands: one line on stderr, once for all ranks that fail alike."""

import os
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

__all__ = ["lost_peer", "print_error"]

PATIENCE = timedelta(seconds=10)
"""For which a rank that fails listens whether the first rank fails with the same words."""


def print_error(words: str) -> None:
    """Print an error on stderr; ranks beside the first print only what the first rank has not printed.

    The first rank leaves its words in torchrun's store, which outlives it. Where there is no such store all speak.
    """
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        print(words, file=sys.stderr, flush=True)
        _leave(words)
    elif _left() != words:
        print(f"rank {rank}: {words}", file=sys.stderr, flush=True)


def lost_peer(error: BaseException) -> str | None:
    """Explain an error of gloo or nccl that means another process is gone; None for other errors.

    Example:
        >>> lost_peer(RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer"))
        'another process has ended, so this one cannot go on: what that one says, or torchrun says of it, tells why'
        >>> lost_peer(ValueError("no such program"))
    """
    said = str(error)
    if not re.search("gloo|nccl|TCPStore", said, re.IGNORECASE):
        return None
    if re.search("closed by peer|reset by peer|refused|broken pipe|remote process exited", said, re.IGNORECASE):
        return f"another process has ended, so {END} what that one says, or torchrun says of it, tells why"
    if re.search("time.?out|timed out", said, re.IGNORECASE):
        return f"another process does not answer, so {END} look whether it hangs or is much slower"
    return None


END = "this one cannot go on:"


def _leave(words: str) -> None:
    store = _store()
    if store is not None:
        store.set(_key(), words)


def _left() -> str | None:
    """The first rank's error."""
    store = _store()
    if store is None:
        return None
    try:
        return store.get(_key()).decode()
    except RuntimeError:  # none in time, or torchrun has gone
        return None


def _store() -> "Store | None":
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore

    try:
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=PATIENCE)
    except (RuntimeError, KeyError, ValueError):
        return None


def _key() -> str:
    return f"pplvm/complaint/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
