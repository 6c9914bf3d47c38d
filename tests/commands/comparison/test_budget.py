"""The largest K within a budget, for costs of every kind that estimators have."""

import pytest

from pplvm.commands.comparison.budget import particles_within


def only(defined, cost):
    return lambda K: float(cost(K)) if defined(K) else None


@pytest.mark.parametrize("budget", [1, 2, 3, 7, 8, 20, 41, 100])
@pytest.mark.parametrize(
    "cost",
    [
        only(lambda K: True, lambda K: K),
        only(lambda K: K > 1, lambda K: K + 1),
        only(lambda K: K % 2 == 0, lambda K: 2 * K),
        only(lambda K: K % 2 == 0, lambda K: K / 2 + 3),
        only(lambda K: True, lambda K: 5 + 3 * K),
        only(lambda K: K % 4 == 0, lambda K: K),
    ],
)
def test_it_is_what_a_search_finds(cost, budget):
    fitting = [K for K in range(1, 300) if cost(K) is not None and cost(K) <= budget]
    assert particles_within(budget, cost) == (max(fitting) if fitting else None)


def test_few_evaluations_are_spent_on_it():
    asked = []
    assert particles_within(1000, lambda K: asked.append(K) or 1.0 * K) == 1000
    assert len(asked) <= 6


def test_a_cost_that_does_not_grow_and_an_estimator_of_one_k():
    assert particles_within(5, lambda K: 3.0) == 2
    assert particles_within(5, lambda K: 3.0 if K == 4 else None) == 4
    assert particles_within(5, lambda K: None) is None
