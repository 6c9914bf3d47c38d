"""What one gradient of an estimator costs, counted."""

from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from pplvm.objectives.objective import Loss

__all__ = ["evaluations_per_datum"]


def evaluations_per_datum(loss: Loss, x: Tensor) -> float:
    """Likelihood evaluations that one gradient costs, per datum: counted, not declared."""
    loss(x)  # the first batch of a program is checked by an extra run
    with _Count() as count:
        value = loss(x)
    del value
    return count.evaluations / len(x)


class _Count(Messenger):
    def __enter__(self) -> "_Count":
        self.evaluations = 0
        return super().__enter__()

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] and "_deterministic" not in msg["infer"]:
            self.evaluations += msg["fn"].batch_shape.numel()
