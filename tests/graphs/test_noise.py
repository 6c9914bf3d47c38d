"""Draws lifted out of a graph are, bit for bit, those of the program, in its order."""

import pytest
import torch
from torch import distributions as dist
from torch import nn

from pplvm.graphs.backends import replay
from pplvm.graphs.tracing import trace

P = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

SAMPLERS = {
    "normal": lambda p: dist.Normal(p, p + 1).sample(),
    "normal along a path": lambda p: dist.Normal(p, p + 1).rsample(),
    "normal of numbers": lambda p: torch.normal(2.0, p + 1) + torch.normal(p, 0.5),
    "randn": lambda p: torch.randn(3, 4) * torch.randn_like(p).sum(),
    "in place": lambda p: torch.empty(5).normal_(1.0, 2.0) + torch.empty(5).uniform_(-1, 1),
    "uniform": lambda p: dist.Uniform(p, p + 1).sample(),
    "rand": lambda p: torch.rand(3) + torch.rand_like(p).sum(),
    "bernoulli": lambda p: dist.Bernoulli(p).sample(),
    "bernoulli, transposed": lambda p: torch.bernoulli(p.T),
    "bernoulli, expanded": lambda p: torch.bernoulli(p.expand(3, 6, 5)),
    "bernoulli of a number": lambda p: torch.empty(7).bernoulli_(0.3),
    "dropout": lambda p: nn.functional.dropout(p, 0.4),
    "categorical": lambda p: dist.Categorical(p).sample(),
    "one-hot": lambda p: dist.OneHotCategorical(p).sample(),
    "exponential": lambda p: dist.Exponential(p + 1).sample(),
    "laplace": lambda p: dist.Laplace(p, p + 1).sample(),
    "gumbel": lambda p: dist.Gumbel(p, p + 1).sample(),
    "relaxed bernoulli": lambda p: dist.RelaxedBernoulli(torch.tensor(0.5), p).rsample(),
    "relaxed one-hot": lambda p: dist.RelaxedOneHotCategorical(torch.tensor(0.5), p).rsample(),
    "lognormal": lambda p: dist.LogNormal(p, p + 1).sample(),
    "permutation": lambda p: torch.randperm(9),
    "integers": lambda p: torch.randint(0, 7, (3,)) + torch.randint(5, (3,)),
}
STAYING = {
    "gamma": lambda p: dist.Gamma(p + 1, p + 1).rsample(),
    "dirichlet": lambda p: dist.Dirichlet(p).sample(),
    "student": lambda p: dist.StudentT(p + 2).sample(),
    "multinomial": lambda p: torch.multinomial(p, 3, True),
    "poisson": lambda p: dist.Poisson(p).sample(),
    "binomial": lambda p: dist.Binomial(3, p).sample(),
}


def graph_of(function):
    traced = trace(lambda p: [*function(p)], [], [P.clone()])
    return traced, replay(traced.graph, [P, *[draw() for draw in traced.noise]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAMPLERS | STAYING)
def test_the_stream_is_the_programs(name, dtype):
    sampler = (SAMPLERS | STAYING)[name]
    function = lambda p: (torch.rand(3), sampler(p), torch.randn(2, 3), sampler(p))
    p = P.to(dtype)
    traced = trace(lambda p: list(function(p)), [], [p.clone()])
    with torch.random.fork_rng():
        run = replay(traced.graph, [p, *[draw() for draw in traced.noise]])
    torch.manual_seed(4)
    expected, state = function(p), torch.get_rng_state()
    torch.manual_seed(4)
    found = run([p, *[draw() for draw in traced.noise]])
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert traced.is_pure is (name in SAMPLERS)


@pytest.mark.parametrize("name", STAYING)
def test_what_follows_a_draw_that_stays_is_not_drawn_before_it(name):
    traced, _ = graph_of(lambda p: (torch.rand(3), STAYING[name](p), torch.rand(3)))
    assert [draw.kind for draw in traced.noise] == ["uniform"] if name != "student" else ["uniform", "normal"]


def test_kinds_of_noise():
    traced, _ = graph_of(
        lambda p: (dist.Normal(p, 1.0).sample(), dist.Bernoulli(p).sample(), dist.Categorical(p).sample())
    )
    assert [(draw.kind, draw.shape) for draw in traced.noise] == [
        ("normal", (6, 5)), ("uniform", (6, 5)), ("exponential", (6, 5)),
    ]  # fmt: skip
