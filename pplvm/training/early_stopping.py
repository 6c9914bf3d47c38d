"""Early stopping by the validation loss, with a patience."""

import math
from typing import Any

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Remembers the lowest validation loss, and how many validations ago it was.

    Arguments:
        patience: looks without a lower loss after which `is_over`; never if None.

    Example:
        >>> stopping = EarlyStopping(patience=2)
        >>> [stopping.observe(loss) for loss in (3.0, 2.0, 2.5, 2.4)], stopping.is_over
        ([True, True, False, False], True)
    """

    def __init__(self, patience: int | None = None) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        self.patience, self.best, self.looks_since = patience, math.inf, 0

    def observe(self, loss: float) -> bool:
        """Record a validation loss; return whether it is the lowest so far."""
        is_best = loss < self.best
        self.best, self.looks_since = min(loss, self.best), 0 if is_best else self.looks_since + 1
        return is_best

    @property
    def is_over(self) -> bool:
        return self.patience is not None and self.looks_since >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "looks_since": self.looks_since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.looks_since = float(state["best"]), int(state["looks_since"])
