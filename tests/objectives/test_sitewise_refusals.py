"""Categories that the guide rules out, by logits of minus infinity: as if they were not there."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.biased import BiasedConcrete, BiasedStraightThrough, BiasedStraightThroughGumbel
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import REBAR, RELAX, DoubleControlVariate, MuProp
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.measure_valued import MeasureValued
from pplvm.objectives.objective import Loss

ON_INDICES = {"DisARM": DisARM, "local": LocalExpectation, "measure-valued": MeasureValued}
RULES = ON_INDICES | {"REBAR": REBAR, "RELAX": RELAX, "MuProp": MuProp, "double": DoubleControlVariate}
BIASED = (BiasedConcrete, BiasedStraightThrough, BiasedStraightThroughGumbel, BiasedGumbelRao, BiasedReinMax)


class RuledOut(nn.Module):
    def __init__(self, family, out):
        super().__init__()
        self.family, self.out = family, torch.tensor(out)
        self.logits, self.level = nn.Parameter(torch.tensor([0.3, -0.4, 0.8, 0.1])), torch.tensor([1.0, -1.0, 0.5, 2.0])

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.family(logits=torch.zeros(4)))
            level = self.level[z] if self.family is dist.Categorical else (z * self.level).sum(-1)
            pyro.sample("x", dist.Normal(level, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.family(logits=self.logits.masked_fill(self.out, -math.inf)))


@pytest.mark.parametrize("out", [[False, True, False, False], [True, False, False, True], [False, False, True, True]])
@pytest.mark.parametrize("family", [dist.OneHotCategorical, dist.Categorical])
@pytest.mark.parametrize("name", RULES)
def test_states_ruled_out_are_as_if_not_there(name, family, out):
    if family is dist.Categorical and name not in ON_INDICES:
        return
    torch.manual_seed(0)
    program, x = RuledOut(family, out), torch.full((5_000,), 0.7)
    loss = Loss(RULES[name](), program)
    gradients = torch.stack([torch.autograd.grad(loss(x), program.logits)[0] for _ in range(20)])
    assert loss(x).isfinite()
    kept = ~program.out
    log_q = program.logits[kept].log_softmax(0)
    log_p = dist.Normal(program.level[kept], 1.0).log_prob(torch.tensor(0.7)) - math.log(4)
    truth = torch.autograd.grad(-(log_q.exp() * (log_p - log_q)).sum(), program.logits)[0]
    assert (gradients.mean(0) - truth).abs().max() < 5e-3 + 4.5 * gradients.std(0).max() / 20**0.5
    assert truth.abs().max() > 0.02


@pytest.mark.parametrize("make", BIASED)
def test_biased_rules_stay_finite(make):
    program = RuledOut(dist.OneHotCategorical, [False, False, True, True])
    loss = Loss(make(), program)(torch.full((50,), 0.7))
    loss.backward()
    assert loss.isfinite() and program.logits.grad.isfinite().all()
