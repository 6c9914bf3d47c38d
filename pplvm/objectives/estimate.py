"""The estimate of an objective on a batch, and the error for objectives and programs that do not fit together."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Estimate", "ObjectiveError"]


class ObjectiveError(ValueError):
    """A program and an objective, or a bound and a rule, that would give a biased or undefined gradient."""


@dataclass(frozen=True)
class Estimate:
    """Value and surrogate of an objective on a batch, in nats."""

    value: Tensor  # (B,), the bound
    surrogate: Tensor  # (B,), whose gradient is the estimator
    scale: float = 1.0  # of all sites: N/B of a subsampled plate, times what poutine.scale says

    @property
    def losses(self) -> Tensor:
        """Minus the value, (B,), with minus the gradient of the surrogate."""
        return -(self.surrogate + (self.value - self.surrogate).detach())
