"""The number of likelihood evaluations that one gradient costs."""

from typing import Any

from pyro.poutine.messenger import Messenger

from pplvm.batch import Batch, as_tuple
from pplvm.objectives.objective import Loss

__all__ = ["evaluations_per_datum"]


def evaluations_per_datum(loss: Loss, batch: Batch) -> float:
    """Likelihood evaluations of one gradient, per datum, as counted in a run."""
    args = as_tuple(batch)
    loss(*args)  # the first batch of a program is checked by an extra run
    with _Count() as count:
        value = loss(*args)
    del value
    return count.evaluations / len(args[0])


class _Count(Messenger):
    def __enter__(self) -> "_Count":
        self.evaluations = 0
        return super().__enter__()

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] and "_deterministic" not in msg["infer"]:
            self.evaluations += msg["fn"].batch_shape.numel()
