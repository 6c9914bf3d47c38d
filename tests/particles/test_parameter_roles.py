"""Which role uses a parameter: of point masses, whose density never moves, it is the guide that has them."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoDelta
from torch import nn

from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.pair import inspect_pair
from pplvm.particles.parameter_roles import parameter_roles


class PointMass(nn.Module):
    """A model with a decoder, and Pyro's guide of point masses; or one that computes them from the data."""

    def __init__(self, amortized):
        super().__init__()
        self.decoder, self.frozen = nn.Linear(2, 3), nn.Linear(1, 1)
        if amortized:
            self.encoder = nn.Linear(3, 2)
            self.guide = self.deltas
        else:
            self.guide = AutoDelta(self.model)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def deltas(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Delta(self.encoder(x)).to_event(1))


def test_parameters_of_point_masses_are_the_guides():
    x = torch.randn(4, 3)
    for amortized, name in ((True, "encoder"), (False, "guide")):
        program = PointMass(amortized)
        inspect_pair(program.model, program.guide, (x,), {})
        if not amortized:
            with pyro.get_param_store().scope():
                program.guide(x)  # makes its parameters
        named = dict(program.named_parameters())
        found = dict(zip(named, parameter_roles(program.model, program.guide, list(named.values()), x), strict=True))
        assert found["decoder.weight"] == {"model"} and found["frozen.weight"] == set()
        theirs = [halves for each, halves in found.items() if each.startswith(name)]
        assert theirs and all(halves == {"guide"} for halves in theirs)


def test_so_they_learn_at_the_guides_rate():
    program, x = PointMass(True), torch.randn(4, 3)
    parts = Loss(Pathwise(), program).parts(x)
    assert {id(p) for p in parts["guide"]} == {id(p) for p in program.encoder.parameters()}
