"""What was found of a program is kept for the Python state that it was found in, and for no other."""

import copy

import pytest
import torch
from torch import nn

from pplvm.particles.state_cache import MOST, StateCache


class Program(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.stage, self.calls = nn.Linear(1, 1), 0, 0

    def model(self, x):
        pass

    def guide(self, x):
        pass


@pytest.fixture
def asked():
    """A function that asks a memory of a program, and the answers that were found so far."""
    program, memory, found = Program(), StateCache(), []

    def ask(*args):
        def find():
            found.append(len(found))
            return found[-1]

        return memory.get((program.model, program.guide), [program], args, {}, find)

    return program, memory, found, ask


def test_an_answer_is_found_once_for_each_state(asked):
    program, _, found, ask = asked
    x = torch.zeros(3)
    assert [ask(x), ask(x), ask(torch.ones(7))] == [0, 0, 0]  # values and sizes do not count
    assert ask(x, None) == 1
    program.stage = 1
    assert ask(x) == 2
    program.stage = 0
    assert ask(x) == 0
    program.eval()
    assert ask(x) == 3
    program.layer.eval()
    program.train()
    assert ask(x) == 0
    assert len(found) == 4


def test_a_copy_starts_empty(asked):
    _, memory, _, ask = asked
    ask(torch.zeros(3))
    assert copy.deepcopy(memory).last is None


def test_few_states_are_remembered(asked):
    program, memory, found, ask = asked
    for _ in range(MOST + 3):
        ask(torch.zeros(3))
        program.calls += 1
    assert len(found) == MOST + 3
    assert len(memory._found) == MOST
