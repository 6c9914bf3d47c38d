"""Autoregressive distributions: one pass and the steps agree, under a prior over latents as in a likelihood."""

import itertools
from math import prod

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch import nn

from pplvm.bounds import elbo
from pplvm.distributions.autoregressive import Autoregressive
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.information_bounds import barber_agakov
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.samples import interpolations, prior_samples, reconstructions
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.wake_sleep import WakeSleep
from pplvm.particles.contract import ProgramError


class Chain(nn.Module):
    """v_i ~ Bernoulli(logit b_i + context_i + sum_j<i W_ij v_j)."""

    def __init__(self, size, late=False):
        super().__init__()
        self.W, self.b, self.late = nn.Parameter(2 * torch.randn(size, size)), nn.Parameter(torch.randn(size)), late
        self.steps = 0

    def given(self, context):
        """With a context (..., D) for each value."""
        return Autoregressive(
            lambda v: dist.Bernoulli(logits=self.b + context + v @ self.W.tril(-1).T),
            lambda shape: (0, (self.b + context).expand(*shape, -1).reshape(prod(shape), -1)),
            self.step,
            event_shape=self.b.shape,
            support=constraints.boolean,
            batch_shape=context.shape[:-1],
        )

    def step(self, cache, before):
        self.steps += 1
        i, logits = cache
        if before is not None and not self.late:
            logits = logits + before.unsqueeze(1) * self.W[:, i - 1]
        return dist.Bernoulli(logits=logits[:, i]), (i + 1, logits)


class Pixels(nn.Module):
    """z ~ N(0, I) of two, x a chain whose context is linear in z, and in a label where there is one."""

    def __init__(self, late=False):
        super().__init__()
        self.chain, self.V, self.shift = (
            Chain(4, late),
            nn.Parameter(torch.randn(4, 2)),
            nn.Parameter(torch.randn(2, 4)),
        )

    def model(self, x, *labels):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            context = z @ self.V.T + sum(10 * self.shift[y] for y in labels)
            pyro.sample("x", self.chain.given(context), obs=x.flatten(1))

    def guide(self, x, *labels):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x.flatten(1)[:, :2], 0.7).to_event(1))


class Codes(nn.Module):
    """z a chain of three bits, x ~ N(z, 1); the guide draws the bits one by one as well, or apart."""

    def __init__(self, guided=False):
        super().__init__()
        self.chain, self.posterior, self.guided = Chain(3), Chain(3), guided

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.chain.given(torch.zeros(3)))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            apart = dist.Bernoulli(logits=x).to_event(1)
            pyro.sample("z", self.posterior.given(x) if self.guided else apart)


def every_value(size):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)))


X = torch.tensor([[1.0, 0.2, -0.3], [0.1, 0.9, 1.2]], dtype=torch.float64)


def test_the_density_sums_to_one_and_draws_have_it():
    torch.manual_seed(1)
    bits = Chain(3)
    chain, values = bits.given(torch.randn(3)), every_value(3)
    probability = chain.log_prob(values).exp().detach()
    assert float(probability.sum()) == pytest.approx(1.0)
    error = (probability * (1 - probability) / 4000).sqrt()
    for late in (False, True):
        bits.late = late  # one that forgets the value drawn last has another
        draws = chain.sample((4000,))
        counts = torch.bincount((draws @ torch.tensor([4.0, 2.0, 1.0])).long(), minlength=8)
        assert (((counts / 4000 - probability) / error).abs().max() < 4.5) != late and not draws.requires_grad


def test_particles_and_plates_enlarge_it_and_a_value_costs_a_step():
    torch.manual_seed(1)
    chain = Chain(5)
    wide = chain.given(torch.randn(4, 5)).expand([6, 4])
    draws = wide.sample()
    assert draws.shape == (6, 4, 5) and chain.steps == 5
    assert wide.log_prob(draws).shape == (6, 4) and chain.given(torch.zeros(5)).expand([4]).log_prob(draws).shape == (
        6,
        4,
    )
    alone = chain.given(torch.randn(5)).expand([3]).log_prob(torch.zeros(5))
    assert alone.shape == (3,)
    with pytest.raises(ValueError, match="0 or 1|support"):
        wide.log_prob(draws + 0.5)  # expanded, it validates as before
    with pytest.raises(ValueError, match=r"batch shape \(6, 4\) does not expand to \(4,\)"):
        wide.expand([4])


def truth_of_codes(program, x):
    values = every_value(3)
    joint = program.chain.given(torch.zeros(3)).log_prob(values) + dist.Normal(values, 1.0).log_prob(x[:, None]).sum(-1)
    return joint.logsumexp(1).detach()  # (2,)


@pytest.mark.parametrize("guided", [False, True])
def test_a_prior_over_latents_is_judged_and_drawn_from(guided):
    torch.manual_seed(2)
    program = Codes(guided)
    found = importance_sampled(program, X, ks=(4000,))
    assert found.fault == "" and ((found.log_p[:, 0] - truth_of_codes(program, X)).abs() < 5 * found.error[:, 0]).all()
    assert log_evidence(program, X) is None, "its states depend on each other, coordinate by coordinate"
    samples = prior_samples(program, X[:1], 4000)
    values = every_value(3)
    mean = program.chain.given(torch.zeros(3)).log_prob(values).exp().detach() @ values
    assert ((samples.mean.mean(0) - mean) / (mean * (1 - mean) / 4000).sqrt()).abs().max() < 4.5
    assert reconstructions(program, X).shape == X.shape
    assert interpolations(program, X[:1], X[1:], 3).shape == (1, 3, 3)
    Loss(LeaveOneOut(elbo, 3), program)(X).backward()
    assert all(p.grad is not None for p in program.chain.parameters())


def test_data_of_a_likelihood_are_dreamt_and_decoded_without_a_word_of_the_program():
    torch.manual_seed(3)
    program, x = Pixels(), torch.tensor([[1.0, 0.0, 1.0, 1.0]]).reshape(1, 2, 2)
    found = prior_samples(program, x, 3000)
    assert found.draw.shape == (3000, 2, 2) and set(found.draw.flatten().tolist()) == {0.0, 1.0}
    gap = (found.draw - found.mean).mean(0) / (found.mean * (1 - found.mean)).mean(0).sqrt() * 3000**0.5
    assert gap.abs().max() < 4.5, "the means are those of each value given the ones drawn before it"
    assert barber_agakov(program, x, draws=50).log_q.isfinite().all()
    Loss(WakeSleep(), program)(x.expand(5, -1, -1)).backward()
    assert program.V.grad.abs().max() > 0


def test_labels_reach_its_context():
    torch.manual_seed(3)
    program = Pixels()
    found = prior_samples(program, (torch.zeros(2, 4), torch.tensor([0, 1])), 600).mean
    first = (10 * program.shift[:, 0]).detach()
    own = [
        dist.Normal(0.0, program.V[0].norm().detach()).sample((20_000,)).add(program.chain.b[0] + shift)
        for shift in first
    ]
    for label in (0, 1):
        assert float(found[label::2, 0].mean()) == pytest.approx(float(own[label].sigmoid().mean().detach()), abs=0.08)


class Stepwise(Pixels):
    """The older way: the model reads its data, and the program offers the steps, which are given the label."""

    late = False

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            conditionals = self.chain.given(z @ self.V.T + self.shift[y]).conditionals(x)
            pyro.sample("x", conditionals.to_event(1), obs=x)

    def init_cache(self, latents, num_data, y):
        return 0, self.chain.b + latents["z"] @ self.V.T + self.shift[y if not self.late else 1 - y]

    def step(self, cache, before):
        return self.chain.step(cache, before)


def test_a_programs_own_steps_are_given_the_conditions():
    torch.manual_seed(4)
    program, like = Stepwise(), (torch.zeros(2, 4), torch.tensor([0, 1]))
    by_steps = prior_samples(program, like, 3000, seed=2)
    by_distribution = Pixels()
    by_distribution.load_state_dict(program.state_dict())
    with torch.no_grad():
        by_distribution.shift /= 10
    found = prior_samples(by_distribution, like, 3000, seed=2)
    assert torch.allclose(by_steps.mean[:, 0], found.mean[:, 0])  # the same latents; later values were drawn anew
    spread = (found.draw.var(0) * 2 / 1500).sqrt()
    for label in (0, 1):
        apart = by_steps.draw[label::2].mean(0) - found.draw[label::2].mean(0)
        assert (apart / spread).abs().max() < 4.5
    program.late = True
    with pytest.raises(ProgramError, match="steps give what they draw"):
        prior_samples(program, like, 4)
