"""REBAR and RELAX read f between the states: refused where it jumps there, with nothing else refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.objectives.control_variates import REBAR, RELAX, MuProp
from pplvm.objectives.objective import Loss, ObjectiveError

BETWEEN = {
    "threshold": lambda z: (z > 0.5).to(z),
    "rounding": torch.round,
    "hinge": lambda z: torch.relu(z - 0.4),
    "steep": lambda z: torch.sigmoid(20 * (z - 0.5)),
    "straight": lambda z: z,
}
JUMPS = ("threshold", "rounding")


class Reading(nn.Module):
    """Five bits, a Gaussian drawn given them, and data around what the model reads."""

    def __init__(self, read):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.read, self.logits = read, nn.Parameter(torch.randn(5, generator=generator))
        self.weight = nn.Parameter(3 * torch.randn(5, generator=generator))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(5)).to_event(1))
            y = pyro.sample("y", dist.Normal((self.read(z) * self.weight).sum(-1), 1.0))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.logits).to_event(1))
            pyro.sample("y", dist.Normal(x + z.sum(-1), 1.0))


@pytest.mark.parametrize("make", [REBAR, RELAX])
@pytest.mark.parametrize("name", BETWEEN)
def test_what_jumps_is_refused_and_nothing_else(make, name):
    loss, x = Loss(make(), Reading(BETWEEN[name])), torch.randn(8)
    if name in JUMPS:
        with pytest.raises(ObjectiveError, match="'z', but there f jumps.*silently biased: use DisARM"):
            loss(x)
    else:
        loss(x).backward()


def test_what_stands_still_does_not_jump():
    """Rounding is all that f does where the weights are equal and the values sum to one."""

    class Even(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(3))

        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.OneHotCategorical(logits=torch.zeros(3)))
                pyro.sample("x", dist.Normal((z * 0.7).sum(-1), 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.OneHotCategorical(logits=self.logits))

    Loss(REBAR(), Even().float())(torch.randn(8, dtype=torch.float32))


def test_a_rule_that_needs_no_integral_of_slopes_is_not_asked():
    Loss(MuProp(), Reading(BETWEEN["threshold"]))(torch.randn(8)).backward()
