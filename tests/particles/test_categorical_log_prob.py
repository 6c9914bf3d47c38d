"""Categorical log-densities by index are those of torch, with their gradients, in less memory."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pplvm.objectives.exact import Exact
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.particles.categorical_log_prob import gathering_log_prob
from pplvm.particles.contract import ProgramError
from pplvm.particles.enumeration import enumerate_guide, enumerate_model, latent_states
from pplvm.particles.pair import pair_up

B, S = 4, 6

WRAPPED = {
    "plain": lambda fn: fn,
    "to_event": lambda fn: fn.to_event(1),
    "mask": lambda fn: fn.mask(torch.tensor([True, False, True])),
    "mask within to_event": lambda fn: fn.mask(torch.tensor([True, False, True])).to_event(1),
    "expand": lambda fn: dist.torch_distribution.ExpandedDistribution(fn, (B, 3)).to_event(1),
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("kind", [dist.Categorical, dist.OneHotCategorical, torch.distributions.Categorical])
def test_values_and_gradients_are_those_of_torch(kind, how):
    if kind.__module__.startswith("torch") and how != "plain":
        return
    value = torch.randint(S, (5, 1, 3))
    if "OneHot" in kind.__name__:
        value = nn.functional.one_hot(value, S).double()
    found = []
    for read in (lambda fn: fn, gathering_log_prob):
        logits = torch.randn(B, 3, S, generator=torch.Generator().manual_seed(1)).requires_grad_()
        log_p = read(WRAPPED[how](kind(logits=logits))).log_prob(value)
        found.append(
            (log_p, *torch.autograd.grad((log_p * torch.arange(float(log_p.numel())).reshape_as(log_p)).sum(), logits))
        )
    assert found[0][0].shape == found[1][0].shape
    torch.testing.assert_close(found[0], found[1])


def test_a_distribution_with_log_densities_of_its_own_keeps_them():
    class Shifted(dist.Categorical):
        def log_prob(self, value):
            return super().log_prob(value) + 1.0

    fn = Shifted(logits=torch.zeros(S))
    assert gathering_log_prob(fn) is fn


class Classes(nn.Module):
    """k ~ Cat(pi), x | k ~ N(mu_k, 1), whose log p(x) is a logsumexp; as numbers or as one-hot vectors."""

    def __init__(self, classes: int, one_hot: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pi, self.mu = nn.Parameter(torch.randn(classes)), nn.Parameter(torch.randn(classes, 2))
        self.encoder = nn.Linear(2, classes)
        self.kind = dist.OneHotCategorical if one_hot else dist.Categorical

    def model(self, x):
        with pyro.plate("batch", len(x)):
            k = pyro.sample("k", self.kind(logits=self.pi))
            mean = self.mu[k] if self.kind is dist.Categorical else k @ self.mu
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("k", self.kind(logits=self.encoder(x)))

    def log_joint(self, x):
        return self.pi.log_softmax(0) + dist.Normal(self.mu, 1.0).log_prob(x[:, None]).sum(-1)  # (B, S)

    def elbo(self, x):
        log_q = self.encoder(x).log_softmax(-1)
        return (log_q.exp() * (self.log_joint(x) - log_q)).sum(-1)


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return made


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("objective", [Exact, LocalExpectation])
def test_a_step_takes_memory_of_states_by_batch(objective, one_hot):
    classes, batch = 60, 50
    program, x = Classes(classes, one_hot), torch.randn(batch, 2)
    truth = (program.log_joint(x).logsumexp(-1) if objective is Exact else program.elbo(x)).mean()
    expected = torch.autograd.grad(-truth, list(program.parameters()), allow_unused=True, materialize_grads=True)
    loss = Loss(objective(), program)
    with Largest() as largest:
        value = loss(x)
        found = torch.autograd.grad(value, list(program.parameters()), allow_unused=True, materialize_grads=True)
    unavoidable = classes * (classes * batch if one_hot and objective is LocalExpectation else max(classes, 2 * batch))
    assert largest.numbers <= unavoidable < classes * classes * batch + one_hot
    if objective is Exact:
        torch.testing.assert_close(value, -truth)
        torch.testing.assert_close(found, expected)
    else:  # the model's gradient is of one draw, the guide's exact
        torch.testing.assert_close(found[2:], expected[2:])


def test_tables_of_the_guide_take_no_more():
    program, x = Classes(60), torch.randn(50, 2)
    pair = pair_up(program.model, program.guide, (x,), {})
    with Largest() as largest:
        log_p, log_q = enumerate_guide(pair, (x,), {})
        torch.autograd.grad((log_q.exp() * log_p).sum(), list(program.parameters()))
    assert largest.numbers <= 60 * 100
    torch.testing.assert_close(log_p.T, program.log_joint(x))


def test_what_memory_will_not_hold_is_refused_in_words_before_it_is_made():
    program, x = Classes(2**20, one_hot=True), torch.randn(2, 2)
    trace = pyro.poutine.trace(program.guide).get_trace(x)
    with Largest() as largest:
        assert latent_states(trace) == 2**20  # counted without a list of one-hot vectors
        pair = pair_up(program.model, program.guide, (x,), {})
        with pytest.raises(
            ProgramError, match=r"^site 'k' in 1,048,576 joint states takes a tensor of 8,192.0 GiB, more"
        ):
            enumerate_guide(pair, (x,), {})
        with pytest.raises(
            ProgramError, match="use smaller batches, or an objective that draws the latents, such as Lea"
        ):
            Loss(Exact(), program)(x)
        with pytest.raises(
            ObjectiveError, match="'k' .* 1,048,576 states of each coordinate .* smaller batches, or Lea"
        ):
            Loss(LocalExpectation(), program)(x)
    assert largest.numbers <= 2**23


def test_an_observed_site_of_too_many_numbers_is_refused():
    def model(x):
        with pyro.plate("batch", len(x)):
            bits = pyro.sample("bits", dist.Bernoulli(torch.full((16,), 0.5)).to_event(1))
            mean = bits.sum(-1, keepdim=True).expand(*bits.shape[:-1], 10**6)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    x = torch.zeros(1, 10**6)
    pair = pair_up(model, None, (x,), {}, frozenset({"bits"}))
    with pytest.raises(ProgramError, match="site 'x' in 65,536 joint states takes a tensor of 488.3 GiB, more than 4"):
        enumerate_model(pair, None, 1, (x,), {})
