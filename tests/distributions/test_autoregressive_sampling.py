"""An autoregressive chain drawn step by step: the draws of full passes at the same uniforms, at one step a value."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.distributions.autoregressive_sampling import draw_value_by_value
from pplvm.evaluation.decoding import Decoder
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.samples import prior_samples, reconstructions
from pplvm.particles.contract import ProgramError


class Chain(nn.Module):
    """z ~ N(0, I), x_i ~ Bernoulli(logit b_i + V_i z + sum_j<i W_ij x_j): all at once given x, or step by step."""

    def __init__(self, data_size: int = 9) -> None:
        super().__init__()
        self.W = nn.Parameter(2 * torch.randn(data_size, data_size))
        self.V = nn.Parameter(torch.randn(data_size, 2))
        self.b = nn.Parameter(torch.randn(data_size))
        self.passes, self.steps = 0, 0

    def logits(self, z, x):
        return self.b + z @ self.V.T + x @ self.W.tril(-1).T

    def model(self, x):
        self.passes += 1
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            flat = x.flatten(1)
            pyro.sample("x", dist.Bernoulli(logits=self.logits(z, flat)).to_event(1), obs=flat)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], 0.5).to_event(1))


class Stepwise(Chain):
    def init_cache(self, latents, num_data):
        return 0, self.b + latents["z"] @ self.V.T

    def step(self, cache, before):
        self.steps += 1
        i, logits = cache
        if before is not None:
            logits = logits + before.unsqueeze(1) * self.W[:, i - 1]
        return dist.Bernoulli(logits=logits[:, i]), (i + 1, logits)


def by_full_passes(chain: Chain, num_data: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and draws, the whole model run anew for each value."""
    torch.manual_seed(seed)
    size = len(chain.b)
    x = torch.zeros(num_data, size)
    trace = pyro.poutine.trace(pyro.poutine.uncondition(chain.model)).get_trace(x)
    means = torch.zeros(num_data, size)
    for i in range(size):
        means[:, i] = chain.logits(trace.nodes["z"]["value"], x)[:, i].sigmoid()
        x[:, i] = torch.bernoulli(means[:, i])
    return means.detach(), x


def test_steps_draw_what_full_passes_draw_from_the_same_uniforms():
    chain, like = Stepwise(), torch.zeros(1, 3, 3)
    means, draws = by_full_passes(chain, 200, seed=4)
    found = prior_samples(chain, like, 200, seed=4)
    assert found.draw.shape == (200, 3, 3) and torch.equal(found.draw.flatten(1), draws)
    torch.testing.assert_close(found.mean.flatten(1), means)
    assert 0.1 < draws.mean() < 0.9


@pytest.mark.parametrize("size", [5, 40])
def test_a_value_costs_one_step_and_no_pass(size):
    chain, like = Stepwise(size), torch.zeros(1, size)
    with evaluation_mode(chain, like) as pair:
        decoder = Decoder(pair, like, 0)
        before = chain.passes
        chain.steps = 0
        decoder.prior(3)
    assert chain.steps == size and chain.passes == before + 1


def test_latents_that_are_put_in_reach_the_steps():
    chain, x = Stepwise(), (torch.rand(4, 9) < 0.5).double()
    found = reconstructions(chain, x)
    assert found.shape == x.shape and (found[0] - found[1]).abs().max() > 0.01


def test_without_steps_it_is_refused_and_told_of_them():
    with pytest.raises(ProgramError, match="give the program the methods init_cache and step"):
        prior_samples(Chain(), torch.zeros(1, 9), 2)


def test_steps_of_another_law_are_refused():
    class Late(Stepwise):
        """Forgets the value drawn last."""

        def step(self, cache, before):
            return super().step(cache, None)

    with pytest.raises(ProgramError, match="give what they draw log p.* its model at site 'x'"):
        prior_samples(Late(), torch.zeros(1, 9), 2)


class Pairs:
    """Two values a step, whatever was drawn."""

    def init_cache(self, latents, num_data):
        return num_data

    def step(self, cache, before):
        return dist.Bernoulli(0.5 * torch.ones(cache, 2)), cache


def test_a_step_may_give_several_values_but_no_more_than_there_are():
    laws, draws = draw_value_by_value(Pairs(), {}, 3, 6)
    assert len(laws) == 3 and [each.shape for each in draws] == 3 * [(3, 2)]
    with pytest.raises(ValueError, match="the steps give 6 values a datum, which has 5"):
        draw_value_by_value(Pairs(), {}, 3, 5)
