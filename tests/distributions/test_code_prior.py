"""Priors over codes: one pass and the steps agree, and every way to use a categorical latent works under one."""

from unittest.mock import Mock

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo
from pplvm.distributions.code_prior import CodePrior
from pplvm.distributions.temperature import at_temperature
from pplvm.evaluation.evidence import log_evidence
from pplvm.graphs.compiled import compiled
from pplvm.objectives.biased import BiasedStraightThrough, BiasedStraightThroughGumbel
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.discrete import softened
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.dependencies import another_value
from pplvm.particles.enumeration import number_of_states
from tests.noise import LIMIT, grouped_gradients, z_scores
from tests.problems import exact_gradient, exact_mean

N, K = 3, 3


class Chain(nn.Module):
    """Logits of code i: b_i + context_i + sum of W_ij v_j over j < i."""

    def __init__(self, late=False):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(N, K, N, K)), nn.Parameter(torch.randn(N, K))
        self.late = late

    def given(self, context):
        """With a context (..., N, K) for each value."""
        return CodePrior(
            lambda v: self(v) + context,
            lambda shape: (0, (self.b + context).expand(*shape, -1, -1).reshape(-1, N, K)),
            self.step,
            event_shape=(N, K),
            batch_shape=context.shape[:-2],
        )

    def forward(self, v):
        earlier = torch.ones(N, N, dtype=v.dtype).tril(-1)[:, None, :, None]
        return self.b + torch.einsum("ikjl,...jl->...ik", self.W * earlier, v)

    def step(self, cache, before):
        i, logits = cache
        if before is not None and not self.late:
            logits = logits + torch.einsum("bl,ikl->bik", before, self.W[:, :, i - 1])
        return logits[:, i], (i + 1, logits)


class Codes(nn.Module):
    """Codes from a chain, x ~ N(sum of embeddings, 1); the guide draws each apart, or all from another chain."""

    def __init__(self, guided=False):
        super().__init__()
        self.chain, self.guided = Chain(), guided
        self.embedding, self.encoder = nn.Parameter(torch.randn(N * K, 2)), nn.Linear(2, N * K)
        self.posterior = Chain() if guided else None

    def model(self, x):
        with pyro.plate("batch", len(x)):
            codes = pyro.sample("codes", self.chain.given(x.new_zeros(N, K)))
            pyro.sample("x", dist.Normal((codes.flatten(-2) @ self.embedding).tanh(), 1.0).to_event(1), obs=x)

    def guide(self, x):
        logits = self.encoder(x).unflatten(-1, (N, K))
        with pyro.plate("batch", len(x)):
            apart = dist.OneHotCategorical(logits=logits).to_event(1)
            pyro.sample("codes", self.posterior.given(logits) if self.posterior is not None else apart)


X = torch.tensor([[1.0, 0.2], [-0.4, 0.9]], dtype=torch.float64)


def every_value():
    return torch.eye(K)[torch.cartesian_prod(*[torch.arange(K)] * N)]  # (K^N, N, K)


def by_hand(program, x):
    """Log p(codes, x) of every value, (K^N, B), without the library."""
    values = every_value()
    logits = program.chain(values)
    prior = (logits.log_softmax(-1) * values).sum((-2, -1))
    mean = (values.flatten(1) @ program.embedding).tanh()
    return prior[:, None] + dist.Normal(mean[:, None], 1.0).log_prob(x).sum(-1)


def test_probabilities_sum_to_one_and_draws_have_them():
    torch.manual_seed(1)
    chain, values = Chain(), every_value()
    prior = chain.given(torch.randn(N, K))
    probability = prior.log_prob(values).exp().detach()
    assert float(probability.sum()) == pytest.approx(1.0, abs=1e-12)
    error = (probability * (1 - probability) / 4000).sqrt()
    index = K ** torch.arange(N - 1, -1, -1)
    for late in (False, True):
        chain.late = late  # one that forgets the code drawn last has another distribution
        draws = prior.sample((4000,))
        counts = torch.bincount((draws.argmax(-1) * index).sum(-1), minlength=K**N)
        assert (((counts / 4000 - probability) / error).abs().max() < 4.5) != late
        assert draws.shape == (4000, N, K) and not draws.requires_grad and (draws.sum(-1) == 1).all()


def test_particles_and_plates_enlarge_it_and_a_code_costs_a_step():
    torch.manual_seed(1)
    chain = Chain()
    chain.step, chain.forward = Mock(wraps=chain.step), Mock(wraps=chain.forward)
    prior = chain.given(torch.randn(4, N, K)).expand([6, 4])
    draws = prior.sample()
    assert draws.shape == (6, 4, N, K) and chain.step.call_count == N and chain.forward.call_count == 0
    assert prior.log_prob(draws).shape == (6, 4) and chain.forward.call_count == 1
    assert (prior.batch_shape, prior.event_shape, prior.has_rsample) == ((6, 4), (N, K), False)
    states = every_value()[:, None]
    each = torch.stack([prior.log_prob(value.expand(6, 4, N, K)) for value in states[:, 0]])
    torch.testing.assert_close(chain.given(torch.zeros(4, N, K)).log_prob(states).shape, torch.Size([K**N, 4]))
    torch.testing.assert_close(prior.log_prob(states[:, None]), each)
    wide = chain.given(torch.zeros(N, K)).to_event(0).expand([5])
    assert wide.log_prob(torch.eye(K)[torch.zeros(N, dtype=torch.long)]).shape == (5,)
    with pytest.raises(ValueError, match="support"):
        prior.log_prob(draws * 0.5)  # expanded, it validates as before
    with pytest.raises(ValueError, match=r"CodePrior: batch shape \(6, 4\) does not expand to \(4,\)"):
        prior.expand([4])
    for shape in ((3,), (0, 4), (3, 1)):
        with pytest.raises(ValueError, match=r"CodePrior: event_shape must be \(N, K\)"):
            CodePrior(chain, lambda shape: None, chain.step, event_shape=shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_vmap_and_no_slope_for_draws(dtype):
    torch.manual_seed(1)
    prior = Chain().to(dtype).given(torch.zeros(N, K, dtype=dtype))
    value = prior.sample((5,)).requires_grad_()
    assert value.dtype == dtype and prior.log_prob(value).dtype == dtype
    assert torch.autograd.grad(prior.log_prob(value).sum(), value, allow_unused=True)[0] is None
    torch.testing.assert_close(torch.func.vmap(prior.log_prob)(value), prior.log_prob(value))
    assert torch.autograd.grad(softened(prior).log_prob(value).sum(), value)[0].abs().min() > 0


def test_relaxed_values_extend_the_log_mass():
    torch.manual_seed(2)
    program = Codes()
    for fn in (program.chain.given(torch.zeros(N, K)), program.chain.given(torch.randn(4, N, K))):
        soft, states = softened(fn), every_value()[:, None]
        torch.testing.assert_close(soft.log_prob(states), fn.log_prob(states))
        between = torch.rand(7, 1, N, K).softmax(-1)
        by_parts = (between * fn.logits(between).log_softmax(-1)).sum((-2, -1))
        torch.testing.assert_close(soft.log_prob(between), by_parts.expand(7, *fn.batch_shape or (1,)))
    ruled_out = program.chain.given(torch.tensor([0.0, 0.0, -torch.inf]).expand(N, K))
    assert softened(ruled_out).log_prob(between).isfinite().all()


def test_enumeration_sums_the_joint_over_all_codes():
    torch.manual_seed(3)
    program = Codes()
    found = log_evidence(program, X)
    assert found is not None and found.how == f"{K**N} states summed out"
    torch.testing.assert_close(found.log_p, by_hand(program, X).logsumexp(0).detach(), atol=1e-12, rtol=0)
    fn = program.chain.given(torch.zeros(2, N, K))
    assert number_of_states(fn) == K
    value = fn.sample()
    assert torch.equal(value.roll(1, -1), another_value(fn, value))


@pytest.mark.parametrize("guided", [False, True])
def test_exact_and_unbiased_gradients(guided):
    torch.manual_seed(4)
    program, x = Codes(guided), X[:1]
    exact, value = exact_gradient(program, x, elbo, 1)
    log_q = program.posterior.given(program.encoder(x).unflatten(-1, (N, K))) if guided else None
    if log_q is not None:
        values = every_value()
        weights = log_q.log_prob(values[:, None])[:, 0].detach()
        assert value == pytest.approx(
            float((weights.exp() * (by_hand(program, x)[:, 0].detach() - weights)).sum()), abs=1e-12
        )
    torch.testing.assert_close(exact_mean(LeaveOneOut(elbo, 2), program, x), exact, atol=1e-10, rtol=0)
    if guided:
        with pytest.raises(ObjectiveError, match="not drawn independently"):
            Loss(LocalExpectation(), program)(x)
    else:
        torch.testing.assert_close(exact_mean(LocalExpectation(), program, x), exact, atol=1e-10, rtol=0)
        biased = exact_mean(BiasedStraightThrough(), program, x)
        assert (biased - exact).abs().max() > 1e-3


@pytest.mark.parametrize("make", [REBAR, lambda: BiasedStraightThroughGumbel(0.5)])
def test_relaxations_run_through_the_prior(make):
    torch.manual_seed(7)
    program, x = Codes(), X[:1]
    exact, _ = exact_gradient(program, x, elbo, 1)
    far = z_scores(grouped_gradients(make(), program, x, 40, 500), exact).abs().max()
    assert (far < LIMIT) == (make is REBAR)


def test_a_temperature_divides_the_logits_of_each_code():
    torch.manual_seed(8)
    chain, values = Chain(), every_value()
    prior = chain.given(torch.randn(N, K))
    cold = at_temperature(prior.expand([2]), 0.25)
    by_parts = ((4 * prior.logits(values)).log_softmax(-1) * values).sum((-2, -1))
    torch.testing.assert_close(cold.log_prob(values[:, None]), by_parts[:, None].expand(-1, 2))
    torch.testing.assert_close(at_temperature(cold, 4.0).log_prob(values[:1]), prior.expand([2]).log_prob(values[:1]))
    torch.manual_seed(9)
    draws = at_temperature(prior, 0.25).sample((4000,))
    probability = cold.log_prob(values[:, None])[:, 0].exp().detach()
    counts = torch.bincount((draws.argmax(-1) * K ** torch.arange(N - 1, -1, -1)).sum(-1), minlength=K**N)
    error = (probability * (1 - probability) / 4000).sqrt().clamp(min=1e-3)
    assert ((counts / 4000 - probability) / error).abs().max() < 4.5


@pytest.mark.parametrize("make", [lambda: Exact(), lambda: LeaveOneOut(elbo, 3), lambda: BiasedStraightThroughGumbel()])
def test_one_graph(make):
    torch.manual_seed(5)
    program = Codes()
    found = {}
    for tier in ("off", "graph"):
        torch.manual_seed(6)
        loss = compiled(Loss(make(), program), tier)
        program.zero_grad()
        value = loss(X)
        value.backward()
        assert loss.tier_now == tier
        found[tier] = [value.detach(), *[p.grad for p in program.parameters() if p.grad is not None]]
    torch.testing.assert_close(found["off"], found["graph"], atol=1e-12, rtol=1e-12)
