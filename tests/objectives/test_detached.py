"""Draws without paths: what is left is the gradient of densities at fixed values, and nothing else."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.objectives.detached import draw_detached, require_densities
from pplvm.objectives.exact import PriorSampling
from pplvm.objectives.objective import ObjectiveError
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.draw import draw_particles
from pplvm.particles.pair import pair_up
from tests.problems import Forced, linear_gaussian


class LearnedPrior(nn.Module):
    """z ~ N(m, s^2), y | z ~ N(a z, 1), x | y ~ N(y, 1); the guide is N(0, 1) for both."""

    def __init__(self) -> None:
        super().__init__()
        self.m, self.log_s, self.a = (nn.Parameter(torch.tensor(value)) for value in (0.3, -0.4, 0.8))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.m, self.log_s.exp()))
            y = pyro.sample("y", dist.Normal(self.a * z, 1.0))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("y", dist.Normal(torch.zeros(len(x)), 1.0))


def test_draws_are_held_still():
    program, x = linear_gaussian(), torch.randn(4, 3)
    pair = pair_up(program.model, program.guide, (x,), {})
    drawn = draw_detached(pair, 3, (x,), {})
    assert not drawn.guide_trace.nodes["z"]["value"].requires_grad and drawn.log_q.requires_grad
    assert draw_particles(program.model, program.guide, x).guide_trace.nodes["z"]["value"].requires_grad


def test_prior_sampling_learns_a_prior_by_its_density_alone():
    """sum_k w~_k d log p(x, z_k) by hand, though the draws come with paths."""
    program, x, objective = LearnedPrior(), torch.tensor([0.7, -1.2]), PriorSampling(5)
    pair = pair_up(program.model, None, (x,), {})
    noise = torch.randn(2, 5, 2)
    z = program.m + program.log_s.exp() * noise[0]
    y = program.a * z + noise[1]
    with Forced({"z": z, "y": y}):
        found = torch.autograd.grad(objective.estimate(pair, x).surrogate.sum(), list(program.parameters()))
    z, y = z.detach(), y.detach()
    prior = dist.Normal(program.m, program.log_s.exp()).log_prob(z) + dist.Normal(program.a * z, 1.0).log_prob(y)
    weights = dist.Normal(y, 1.0).log_prob(x).softmax(0)
    truth = torch.autograd.grad((weights * prior).sum(), list(program.parameters()))
    assert torch.allclose(torch.stack(found), torch.stack(truth), atol=1e-12)
    assert torch.stack(truth).abs().min() > 1e-3


def test_a_mask_within_the_distribution_is_seen():
    class Masked(LearnedPrior):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).mask(torch.tensor(True)))
                y = pyro.sample("y", dist.Normal(torch.zeros(len(x)), 1.0))
                pyro.sample("x", dist.Normal(y, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).mask(torch.tensor(True)))
                pyro.sample("y", dist.Normal(torch.zeros(len(x)), 1.0))

    program, x = Masked(), torch.zeros(2)
    pair = pair_up(program.model, program.guide, (x,), {})
    with pytest.raises(ObjectiveError, match="ReweightedWakeSleep needs.*'z' is masked.*use something else"):
        require_densities(ReweightedWakeSleep(2), pair, (x,), {}, "something else")
