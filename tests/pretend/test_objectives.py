"""Every objective of the catalog on the accelerator: value and gradient as on the CPU."""

import contextlib
from functools import cache

import pyro
import pytest
import torch

from pplvm.catalog import OBJECTIVES
from pplvm.commands.building.builders import build_objective, takes_particles
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.particles.contract import ProgramError
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from pplvm.programs.vq_vae import vq_vae
from tests.pretend.accelerator import gradients

B, D = 4, 6


MADE = (
    lambda: SigmoidBeliefNet(D, (2, 3)),
    lambda: VAE(D, 2, (5,)),
    lambda: vq_vae(D, (1, 2), 3, 2, (5,), posterior="stochastic"),
    lambda: vq_vae(D, (1, 2), 3, 2, (5,)),
)


def built(name):
    known = {"data_size": D, "data_mean": torch.full((D,), 0.5)}
    return build_objective(name, known | ({"num_particles": 3} if takes_particles(name) else {}))


@cache
def program_of(name):
    """Whichever program the objective does not refuse."""
    for make in MADE:
        with contextlib.suppress(ObjectiveError, ProgramError, UserWarning):
            Loss(built(name), make())(torch.ones(B, D))
            return make
    raise AssertionError(f"{name} runs on none of the programs")


SLOW = ("relax",)  # as REBAR, with a network beside it


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in OBJECTIVES])
def test_value_and_gradient(accelerator, name):
    def on(device):
        with pyro.get_param_store().scope():
            make = program_of(name)
            torch.manual_seed(3)
            loss = Loss(built(name), make().to(device))  # which takes what the objective learns to the program
            value = loss(torch.bernoulli(torch.full((B, D), 0.5)).to(device))
            value.backward()
            assert value.device.type == device.type
            return value, gradients(loss, device)

    accelerator.same(on)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name.startswith("pyro-")])
def test_a_value_of_pyro_s_own_without_gradient(accelerator, name):
    """Which Pyro hands out as a number of the host."""

    def on(device):
        with pyro.get_param_store().scope(), torch.no_grad():
            value = Loss(built(name), program_of(name)().to(device))(torch.ones(B, D, device=device))
            assert value.device.type == device.type
            return value

    accelerator.same(on)
