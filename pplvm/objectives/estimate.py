"""The estimate of an objective on a batch, and the error for objectives and programs that do not fit together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pplvm.particles.pair import Pair, cuda_devices
from pplvm.particles.scales import subsampling

__all__ = ["Estimate", "ObjectiveError", "scale_beside_subsampling"]


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


def scale_beside_subsampling(estimate: Estimate, pair: Pair, args: tuple, kwargs: dict) -> float:
    """The scale of an estimate without N/B, which belongs to sums: what `poutine.scale` says.

    Arguments:
        pair: with the runs of the estimate; an objective that draws by itself keeps none, and the model is run again.
    """
    if pair.runs:
        return estimate.scale / subsampling(pair.runs[0])
    if estimate.scale == 1:
        return 1.0
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        return estimate.scale / subsampling([pair.again.run(pair.model, 1, args, kwargs)])
