"""A seed decides all that a program may draw, from whichever library."""

import random

import numpy as np
import torch

from pplvm.training.random_state import random_state, seed_all, seeded


def draws():
    return float(torch.rand(())), np.random.rand(), random.random(), np.random.normal()


def test_all_generators_start_from_the_seed_and_none_from_another():
    seed_all(7)
    first = draws()
    draws()
    seed_all(7)
    assert draws() == first
    seed_all(2**40 + 8)  # above what numpy takes
    assert not set(draws()) & set(first)


def test_what_is_seeded_for_a_while_goes_on_afterwards_even_after_an_error():
    seed_all(7)
    expected = draws(), draws()
    seed_all(7)
    found = [draws()]
    try:
        with seeded(3):
            inside = draws()
            raise ZeroDivisionError
    except ZeroDivisionError:
        found.append(draws())
    assert tuple(found) == expected
    before = random_state()
    with seeded(3):
        assert draws() == inside
    assert all(torch.equal(value, random_state()[name]) for name, value in before.items())
