"""Optimizers of torch's that cannot take the steps of a run are known before the first."""

import pytest
import torch

from pplvm.commands.building.training_builders import OPTIMIZERS
from pplvm.training.optimizer_state import why_optimizer_cannot_step


def parameters():
    return [torch.ones(2, 3, requires_grad=True)]


@pytest.mark.parametrize("kind", [*OPTIMIZERS, "Adadelta", "ASGD", "Rprop", "Adafactor"])
def test_most_can(kind):
    p = parameters()
    assert why_optimizer_cannot_step(getattr(torch.optim, kind)(p)) is None
    assert torch.equal(p[0], torch.ones(2, 3))


@pytest.mark.parametrize(("kind", "why"), [("SparseAdam", "does not support dense gradients"), ("LBFGS", "closure")])
def test_others_say_why_not(kind, why):
    assert why in why_optimizer_cannot_step(getattr(torch.optim, kind)(parameters()))


def test_one_of_somebody_elses_is_believed():
    class Mine(torch.optim.SGD):
        def step(self):
            raise RuntimeError("not on zeros")

    assert why_optimizer_cannot_step(Mine(parameters())) is None
