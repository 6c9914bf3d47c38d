"""The guide held still: parameters come back as they were, wherever in the program they are kept."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.stopped_guide import stopped_terms
from pplvm.particles.pair import pair_up


class Encoded(nn.Module):
    """z ~ N(f(u), 1) with the guide's own encoder f, as a VampPrior has it; x ~ N(z, 1)."""

    def __init__(self, share: str) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.u = nn.Parameter(torch.randn(2))
        if share == "module":
            self.prior = nn.ModuleDict({"encoder": self.encoder})
        else:
            self.prior = nn.ModuleDict({"encoder": nn.Linear(2, 2)})
            self.prior["encoder"].weight, self.prior["encoder"].bias = self.encoder.weight, self.encoder.bias

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.prior["encoder"](self.u), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        loc, log_scale = self.encoder(x), self.prior["encoder"](x.flip(0))  # by both names
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


@pytest.mark.parametrize("share", ["module", "parameters"])
def test_shared_parameters_are_held_still_and_come_back(share):
    program, x, objective = Encoded(share), torch.randn(3, 2), StickTheLanding()
    before = dict(program.named_parameters(remove_duplicate=False))
    assert len(before) == 5
    pair = pair_up(program.model, program.guide, (x,), {})
    drawn = pair.run_guide(1, (x,), {})
    drawn.nodes["z"]["value"] = drawn.nodes["z"]["value"].detach()
    found = stopped_terms(objective, pair, drawn, 1, (x,), {})["z"]
    assert not found.requires_grad
    torch.testing.assert_close(found, drawn.nodes["z"]["fn"].log_prob(drawn.nodes["z"]["value"]).detach())
    after = dict(program.named_parameters(remove_duplicate=False))
    assert all(after[name] is parameter for name, parameter in before.items())


@pytest.mark.parametrize("share", ["module", "parameters"])
def test_a_program_that_shares_its_encoder_learns(share):
    program, x = Encoded(share), torch.randn(3, 2)
    loss = Loss(StickTheLanding(), program)
    loss(x).backward()
    assert all(p.requires_grad and p.grad is not None and p.grad.abs().sum() > 0 for p in program.parameters())
