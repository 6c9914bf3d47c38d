"""A bound whose latents' terms are weighted by constants, as the target of an estimator."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pplvm.bounds import Bound
from pplvm.particles.tempering import Tempering

__all__ = ["TemperedBound"]


@dataclass(frozen=True)
class TemperedBound:
    """A bound of log-weights tempered by constants: beta for all latents, times one for each.

    Example:
        >>> from pplvm.bounds import elbo
        >>> TemperedBound(elbo, 0.5, (("z_1", 2.0),)).__name__
        'elbo, beta 0.5, z_1 times 2'
    """

    bound: Bound
    beta: float = 1.0
    own: tuple[tuple[str, float], ...] = ()

    @property
    def __name__(self) -> str:
        own = [f"{name} times {beta:g}" for name, beta in self.own]
        return ", ".join([getattr(self.bound, "__name__", str(self.bound)), f"beta {self.beta:g}", *own])

    def __call__(self, log_weights: Tensor) -> Tensor:
        return self.bound(log_weights)

    def times(self, beta: float, own: Mapping[str, float]) -> "TemperedBound | Bound":
        """The bound with further weights; the plain bound if none is left."""
        before, names = dict(self.own), sorted({*dict(self.own), *own})
        product = ((name, before.get(name, 1.0) * own.get(name, 1.0)) for name in names)
        found = TemperedBound(self.bound, self.beta * beta, tuple((n, b) for n, b in product if b != 1))
        return self.bound if found == TemperedBound(self.bound) else found

    def tempering(self) -> Tempering:
        return Tempering(self.beta, dict(self.own))
