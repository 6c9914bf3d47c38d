"""Runs that draw what a program observes, and leave what `pyro.deterministic` records as it was computed."""

from typing import Any

from pyro.poutine.uncondition_messenger import UnconditionMessenger

__all__ = ["Unobserved"]


class Unobserved(UnconditionMessenger):
    """Draw observed sites; Pyro's own messenger would draw a deterministic site anew, in the shape of its plates."""

    def _pyro_sample(self, msg: Any) -> None:
        if not (msg["infer"] or {}).get("_deterministic"):
            super()._pyro_sample(msg)
