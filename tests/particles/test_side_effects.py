"""What the waist leaves as it was: random state, validation, the global store; and modules of Pyro's own."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import Normal

from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import inspect_pair

B = 3


def simple_model(x):
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 2.0), obs=x)


def simple_guide(x):
    with pyro.plate("batch", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.5))


def test_the_check_leaves_the_random_state():
    x = torch.randn(B)
    before = torch.get_rng_state()
    inspect_pair(simple_model, simple_guide, (x,), {})
    assert torch.equal(before, torch.get_rng_state())
    draw_particles(simple_model, simple_guide, x)
    assert not torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("pyros", [True, False])
@pytest.mark.parametrize("torchs", [True, False])
def test_validation_is_left_as_it_was(pyros, torchs):
    def state():
        validated = torch.distributions.Distribution._validate_args
        return pyro.distributions.is_validation_enabled(), pyro.infer.util.is_validation_enabled(), validated

    try:
        pyro.enable_validation(pyros)
        torch.distributions.Distribution.set_default_validate_args(torchs)
        draw_particles(simple_model, simple_guide, torch.randn(B))
        assert state() == (pyros, pyros, torchs)
        with pytest.raises(ProgramError):
            draw_particles(simple_guide, simple_guide, torch.randn(B))
        assert state() == (pyros, pyros, torchs)
        assert torch.get_default_dtype() is torch.float64
    finally:
        pyro.enable_validation(True)


class Scaled(PyroModule):
    """With a constrained parameter and a submodule that Pyro knows."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](1, 1)
        self.width = PyroParam(torch.tensor(0.5), dist.constraints.positive)

    def model(self, x):
        simple_model(x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.linear(x.unsqueeze(-1)).squeeze(-1), self.width))


def test_pyro_modules_of_one_name_keep_their_own_parameters():
    x, programs = torch.randn(B), [Scaled(), Scaled()]
    for program in programs:
        found = draw_particles(program.model, program.guide, x, num_particles=2)
        z = found.guide_trace.nodes["z"]["value"]
        loc = program.linear.weight[0] * x + program.linear.bias
        torch.testing.assert_close(found.log_q, Normal(loc, 0.5).log_prob(z))
        loss = Loss(Pathwise(), program)
        loss(x).backward()
        assert all(p.grad is not None for p in program.parameters())
    assert not list(pyro.get_param_store().keys())


def test_a_guide_that_makes_its_parameters_when_first_called():
    guide = AutoNormal(simple_model)
    x = torch.randn(B)
    found = draw_particles(simple_model, guide, x, num_particles=2)
    assert found.log_weights.shape == (2, B) and len(list(guide.parameters())) == 2


def test_pyros_svi_trains_a_pyro_module():
    program, x = Scaled(), torch.randn(B)
    before = [p.detach().clone() for p in program.parameters()]
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.1}), Pathwise(num_particles=3))
    try:
        svi.step(x)
    finally:
        pyro.clear_param_store()
    moved = {n: not torch.equal(a, b) for a, (n, b) in zip(before, program.named_parameters(), strict=True)}
    assert moved["linear.weight"] and moved["linear.bias"]


@pytest.mark.parametrize("K", [0, -1, 2.5, None])
def test_the_number_of_particles_is_checked(K):
    with pytest.raises(ValueError, match="num_particles must be an integer of at least 1"):
        draw_particles(simple_model, simple_guide, torch.randn(B), num_particles=K)
