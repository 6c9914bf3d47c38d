"""One evaluation of an objective on a batch, and the error of objectives and programs that do not go together."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Estimate", "ObjectiveError"]


class ObjectiveError(ValueError):
    """An objective and a program, or a bound and a rule, that together would be biased or undefined."""


@dataclass(frozen=True)
class Estimate:
    """One evaluation of an objective on a batch, in nats."""

    value: Tensor  # (B,), the bound
    surrogate: Tensor  # (B,), whose gradient is the estimator
    scale: float = 1.0  # of all sites: N/B of a subsampled plate, times what poutine.scale says

    @property
    def losses(self) -> Tensor:
        """Minus the value, (B,), whose gradient is minus that of the surrogate."""
        return -(self.surrogate + (self.value - self.surrogate).detach())
