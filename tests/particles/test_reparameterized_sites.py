"""A discrete draw has no path, whatever its distribution says; relaxed and continuous draws keep theirs."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import AffineTransform, TransformedDistribution
from torch.distributions import OneHotCategoricalStraightThrough as StraightThrough

from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.particles.reparameterized_sites import is_reparameterized

ONES, HALF, COLD = torch.ones(3), torch.tensor(0.5), torch.tensor(0.3)


@pytest.mark.parametrize(
    "fn, truth",
    [
        (dist.Normal(0.0, 1.0), True),
        (dist.Normal(ONES, 1.0).to_event(1).mask(torch.tensor(True)), True),
        (dist.RelaxedBernoulli(COLD, HALF), True),
        (dist.RelaxedOneHotCategorical(COLD, ONES), True),
        (dist.Delta(ONES), True),
        (dist.LogNormal(0.0, 1.0), True),
        (dist.Unit(HALF, has_rsample=True), True),
        (dist.Unit(HALF, has_rsample=False), False),
        (dist.Bernoulli(HALF), False),
        (dist.Poisson(HALF), False),
        (dist.OneHotCategoricalStraightThrough(ONES), False),
        (dist.OneHotCategoricalStraightThrough(torch.ones(2, 3)).to_event(1).mask(True), False),
        (TransformedDistribution(StraightThrough(ONES), AffineTransform(1.0, 2.0, 1)), False),
        (
            dist.MaskedMixture(
                torch.tensor(True), dist.OneHotCategoricalStraightThrough(ONES), dist.Normal(ONES, 1.0).to_event(1)
            ),
            False,
        ),
    ],
)
def test_who_has_a_path(fn, truth):
    assert is_reparameterized(fn) is truth


def test_no_gradient_reaches_a_discrete_draw():
    """Neither in its value nor in what the guide draws given it."""
    a = nn.Parameter(torch.zeros(3))

    def model(x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(logits=torch.zeros(len(x), 3)))
            pyro.sample("y", dist.Normal(z[..., 0], 1.0))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    def guide(x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.OneHotCategoricalStraightThrough(logits=a.expand(len(x), 3)))
            pyro.sample("y", dist.Normal(z[..., 1], 1.0))

    for K in (1, 4):
        found = draw_particles(model, guide, torch.zeros(2), num_particles=K)
        sites = found.guide_trace.nodes
        assert not sites["z"]["value"].requires_grad and not sites["y"]["value"].requires_grad
        assert found.score_sites == ("z",) and not found.log_p.requires_grad


def test_draws_that_are_rounded_after_they_are_drawn_are_refused():
    def model(x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.RelaxedBernoulli(COLD, torch.full((len(x),), 0.5)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.RelaxedBernoulliStraightThrough(COLD, torch.full((len(x),), 0.5)))

    with pytest.raises(ProgramError, match="'z' is drawn relaxed and then rounded.*BiasedStraightThroughGumbel"):
        draw_particles(model, guide, torch.zeros(2))
