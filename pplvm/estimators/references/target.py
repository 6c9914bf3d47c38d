"""What the gradient of an estimator is an estimate of: a bound of K particles, or a function of all states' tables."""

from collections.abc import Callable

from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.objective import Loss
from pplvm.objectives.targets import UNKNOWN, Tabulated
from pplvm.objectives.tempered_bound import TemperedBound

__all__ = ["Target", "particles_of", "target_label", "target_of"]

Target = tuple[Callable[[Tensor], Tensor] | Tabulated, int]
"""What is estimated: a bound and its number of particles, or a function of the tables."""

PYROS_ELBOS = (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO)


def target_of(loss: Loss) -> Target:
    """What a loss estimates, and with how many particles; without a word of its own, Pyro's own the elbo."""
    known = elbo if isinstance(loss.objective, PYROS_ELBOS) else UNKNOWN
    kind = getattr(loss.objective, "target", known)
    bound = kind.bound if isinstance(kind, TemperedBound) else kind
    return kind, 1 if bound is elbo or isinstance(kind, Tabulated) else loss.objective.num_particles


def particles_of(loss: Loss) -> int:
    """How many particles a loss draws; 1 of an objective that has none."""
    return getattr(loss.objective, "num_particles", 1)


def target_label(kind: Callable[[Tensor], Tensor] | Tabulated, num_particles: int) -> str:
    """What is estimated, in words.

    Example:
        >>> from pplvm.bounds import elbo, iwae
        >>> target_label(elbo, 1), target_label(iwae, 4), target_label(Tabulated("log p(x)"), 1)
        ('elbo', 'iwae, K=4', 'log p(x)')
    """
    label = kind.name if isinstance(kind, Tabulated) else getattr(kind, "__name__", str(kind))
    return label if num_particles == 1 else f"{label}, K={num_particles}"
