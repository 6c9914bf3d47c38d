"""The target of an estimator's gradient: a bound of K particles, or a function of enumerated states."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.objectives.objective import Loss
from pplvm.objectives.penalized import Penalized
from pplvm.objectives.targets import UNKNOWN, Tabulated
from pplvm.objectives.tempered_bound import TemperedBound
from pplvm.objectives.wrapper import Wrapper

__all__ = ["PenalizedTarget", "Target", "particles_of", "target_label", "target_of"]

Plain = Callable[[Tensor], Tensor] | Tabulated
"""A bound, or a function of the tables."""


@dataclass(frozen=True)
class PenalizedTarget:
    """A target minus penalties: deterministic sites of the guide, each with its weight.

    Example:
        >>> PenalizedTarget(elbo, (("commitment", 0.25),)).__name__
        'elbo, commitment times 0.25'
    """

    plain: Plain
    penalties: tuple[tuple[str, float], ...]

    @property
    def __name__(self) -> str:
        return ", ".join([_label(self.plain), *[f"{name} times {weight:g}" for name, weight in self.penalties]])


Target = tuple[Plain | PenalizedTarget, int]
"""What is estimated: a bound and its number of particles, a function of the tables, or one of them with penalties."""

PYROS_ELBOS = (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO)


def target_of(loss: Loss) -> Target:
    """The target of a loss and its number of particles; of Pyro's ELBOs the elbo."""
    known = elbo if isinstance(loss.objective, PYROS_ELBOS) else UNKNOWN
    objective, penalties = _apart(loss.objective)
    kind = getattr(objective, "target", known)
    bound = kind.bound if isinstance(kind, TemperedBound) else kind
    K = 1 if bound is elbo or isinstance(kind, Tabulated) else loss.objective.num_particles
    return PenalizedTarget(kind, tuple(penalties.items())) if penalties else kind, K


def particles_of(loss: Loss) -> int:
    """The number of particles of a loss; 1 without any."""
    return getattr(loss.objective, "num_particles", 1)


def target_label(kind: Plain | PenalizedTarget, num_particles: int) -> str:
    """The target in words.

    Example:
        >>> from pplvm.bounds import elbo, iwae
        >>> target_label(elbo, 1), target_label(iwae, 4), target_label(Tabulated("log p(x)"), 1)
        ('elbo', 'iwae, K=4', 'log p(x)')
    """
    label = _label(kind)
    return label if num_particles == 1 else f"{label}, K={num_particles}"


def _apart(objective: ELBO) -> tuple[ELBO, Counter]:
    """An objective without its penalties, wherever they stand among its wrappers, and these with their weights."""
    if not isinstance(objective, Wrapper):
        return objective, Counter()
    inner, penalties = _apart(objective.inner)
    if isinstance(objective, Penalized):
        own = Counter(objective.penalties)
        own.update(penalties)
        return inner, own
    plain: Any = copy.copy(objective)
    plain.inner = inner
    return plain, penalties


def _label(kind: Plain | PenalizedTarget) -> str:
    return kind.name if isinstance(kind, Tabulated) else getattr(kind, "__name__", str(kind))
