"""Objectives of a user's own, which implement `estimate` by other runs than `draw_from_pair`, or another loss."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pplvm.bounds import elbo
from pplvm.objectives.antithetic import ARMS, DisARM
from pplvm.objectives.biased import BiasedConcrete, BiasedStraightThroughGumbel
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.control_variates import MuProp
from pplvm.objectives.estimate import Estimate, ObjectiveError
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.contract import plate_scale, sample_sites
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet

X = torch.linspace(-1.0, 1.0, 10)


class Scaled(nn.Module):
    """z ~ N(m, 1), x | z ~ N(z, 1), all sites scaled, in a plate of 100 data or of the batch."""

    def __init__(self, scale, num_data):
        super().__init__()
        self.m, self.scale, self.num_data = nn.Parameter(torch.tensor(0.5)), scale, num_data

    def model(self, x):
        with poutine.scale(scale=self.scale), pyro.plate("batch", self.num_data, subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(self.m, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        with poutine.scale(scale=self.scale), pyro.plate("batch", self.num_data, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Normal(0.2 * x, 0.7))


class OwnDraws(Objective):
    target = elbo

    def estimate(self, pair, *args, **kwargs):
        guide_trace = pair.run_guide(1, args, kwargs)
        model_trace = pair.run_model(1, guide_trace, args, kwargs)
        log_p, log_q = (sum(pair.log_probs(trace, 1).values()) for trace in (model_trace, guide_trace))
        value = elbo(log_p - log_q)
        return Estimate(value, value, plate_scale(list(sample_sites(model_trace).values())))


class WeightDecay(Pathwise):
    """Its loss is of a sum over N data, as Pyro's are."""

    def differentiable_loss(self, model, guide, *args, **kwargs):
        return super().differentiable_loss(model, guide, *args, **kwargs) + model.__self__.m.square()


@pytest.mark.parametrize("num_data", [10, 100])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_own_draws_are_scaled_as_the_others(scale, num_data):
    found = []
    for objective in (Pathwise(), OwnDraws(), pyro.infer.Trace_ELBO()):
        torch.manual_seed(0)
        program = Scaled(scale, num_data)
        loss = Loss(objective, program)(X)
        found.append(torch.stack([loss.detach(), *torch.autograd.grad(loss, program.m)]))
    assert torch.allclose(found[0], found[2]) and torch.equal(found[0], found[1])


@pytest.mark.parametrize("num_data", [10, 100])
def test_a_loss_of_its_own_is_taken(num_data):
    program = Scaled(1.0, num_data)
    losses = []
    for objective in (Pathwise(), WeightDecay()):
        torch.manual_seed(0)
        losses.append(Loss(objective, program)(X))
    grads = [torch.autograd.grad(loss, program.m)[0] for loss in losses]
    assert torch.allclose(losses[1] - losses[0], program.m.square() / num_data)
    assert torch.allclose(grads[1] - grads[0], 2 * program.m / num_data)


ATTRIBUTES = {
    BiasedConcrete: ("temperature", 0.5, 2.0),
    BiasedStraightThroughGumbel: ("temperature", 0.5, 2.0),
    BiasedGumbelRao: ("noise_draws", 2, 5),
    MuProp: ("linear", True, False),
    ARMS: ("draws", 4, 3),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_what_an_objective_was_made_with_can_be_changed(kind):
    """As a temperature is annealed: the gradient is that of an objective made so."""
    name, before, after = ATTRIBUTES[kind]
    torch.manual_seed(0)
    program, x, grads = SigmoidBeliefNet(4), torch.bernoulli(torch.full((3, 4), 0.5)), []
    changed = kind(**{name: before})
    assert getattr(changed, name) == before
    for objective in (changed, changed, kind(**{name: after})):
        torch.manual_seed(1)
        loss = Loss(objective, program)(x)
        found = torch.autograd.grad(loss, list(program.parameters()))
        grads.append(torch.cat([each.flatten() for each in found]))
        setattr(changed, name, after)
    assert torch.equal(grads[1], grads[2]) and not torch.equal(grads[0], grads[1])


@pytest.mark.parametrize("parent", [Sitewise, DisARM])
def test_a_rule_within_an_objective_is_refused(parent):
    with pytest.raises(ObjectiveError, match="Mine defines 'surrogate', .*write a child of SiteRule"):
        type("Mine", (parent,), {"surrogate": lambda self, site: (site.f * site.log_q).mean(0)})
