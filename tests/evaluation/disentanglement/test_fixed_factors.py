"""Draws that hold one factor: they share its level, and the other factors vary as in the data."""

import numpy as np

from pplvm.evaluation.disentanglement.fixed_factors import rows_sharing
from tests.evaluation.known_codes import grid


def test_groups_share_one_level_and_vary_in_the_others():
    factors = grid(3, 4, times=5).numpy()
    rows = rows_sharing(factors[:, 0], 3000, 10, np.random.default_rng(0))
    held, free = factors[rows, 0], factors[rows, 1]
    assert (held == held[:, :1]).all()
    share = np.bincount(free.ravel()) / free.size
    assert np.abs(share - 1 / 4).max() < 4 * (3 / 16 / free.size) ** 0.5
    share = np.bincount(held[:, 0]) / len(held)
    assert np.abs(share - 1 / 3).max() < 4 * (2 / 9 / len(held)) ** 0.5


def test_levels_of_one_datum_are_never_drawn():
    level = np.array([0, 0, 1, 2, 2])
    assert set(rows_sharing(level, 200, 3, np.random.default_rng(0)).ravel()) == {0, 1, 3, 4}
