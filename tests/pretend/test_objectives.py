"""Every objective of the catalog on the accelerator: value and gradient as on the CPU."""

import contextlib

import pyro
import pytest
import torch

from pplvm.catalog import OBJECTIVES
from pplvm.commands.building import build_objective, takes_particles
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.particles.contract import ProgramError
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.pretend.accelerator import gradients

B, D = 4, 6


def loss_of(name, device):
    known = {"data_size": D, "data_mean": torch.full((D,), 0.5)} | (
        {"num_particles": 3} if takes_particles(name) else {}
    )
    x = torch.bernoulli(torch.full((B, D), 0.5))
    for make in (lambda: SigmoidBeliefNet(D, (2, 3)), lambda: VAE(D, 2, (5,))):
        with contextlib.suppress(ObjectiveError, ProgramError, UserWarning):
            torch.manual_seed(3)
            loss = Loss(build_objective(name, known), make())
            loss(x)  # refused on one of them, perhaps
            return loss.to(device), x.to(device)
    raise AssertionError(f"{name} runs on neither program")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_value_and_gradient(accelerator, name):
    def on(device):
        with pyro.get_param_store().scope():
            loss, x = loss_of(name, device)
            torch.manual_seed(5)
            value = loss(x)
            value.backward()
            assert value.device.type == device.type or name.startswith("pyro-")
            return value, gradients(loss, device)

    accelerator.same(on)
