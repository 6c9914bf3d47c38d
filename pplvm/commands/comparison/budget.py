"""The largest number of particles that a budget of likelihood evaluations allows."""

from collections.abc import Callable
from itertools import islice

__all__ = ["particles_within"]

SMALLEST = range(1, 17)
"""Where the first two K are sought at which an estimator is defined."""


def particles_within(budget: float, cost: Callable[[int], float | None]) -> int | None:
    """The largest K whose cost does not exceed the budget; None if there is none.

    The cost is affine in K, so two of its values tell where the budget ends; the answer is checked, and mended
    by steps of one where some K are not defined.

    Arguments:
        budget: evaluations per datum and gradient.
        cost: of K particles; None where the estimator is not defined at that K.

    Example:
        >>> particles_within(20, lambda K: 3 + 2 * K)
        8
        >>> particles_within(21, lambda K: None if K % 2 else 3.0 * K)
        6
    """
    known = list(islice(((K, found) for K in SMALLEST if (found := cost(K)) is not None), 2))
    if not known or known[0][1] > budget:
        return None
    (least, start), (other, end) = known[0], known[-1]
    slope = (end - start) / max(other - least, 1)
    if slope <= 0:  # more particles for nothing, or a single K
        return other
    K = int(least + (budget - start) / slope)
    while K > least and not _affordable(K, budget, cost):
        K -= 1
    for more in (K + 1, K + 2):
        K = more if _affordable(more, budget, cost) else K
    return K


def _affordable(K: int, budget: float, cost: Callable[[int], float | None]) -> bool:
    found = cost(K)
    return found is not None and found <= budget
