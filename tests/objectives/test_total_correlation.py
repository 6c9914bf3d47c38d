"""The beta-TCVAE: its three parts add up, are right where the aggregate posterior is known, and nest in wrappers."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import iwae
from pplvm.graphs.compiled import compiled
from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.objectives.total_correlation import TotalCorrelation, kl_parts
from pplvm.programs.vae import VAE

SCALE = 0.5  # of q(z | x), narrower than the data and wider than their grid


class Linear(nn.Module):
    """z | x ~ N(W x, SCALE^2), x of a grid of normal quantiles: the aggregate posterior is normal."""

    def __init__(self, W):
        super().__init__()
        self.W = nn.Parameter(W)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(0.0 * z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x @ self.W.T, SCALE).to_event(1))


W = torch.tensor([[1.0, 0.3], [0.8, 0.7]], dtype=torch.float64)


def grid(side=24):
    quantiles = dist.Normal(0.0, 1.0).icdf((torch.arange(side, dtype=torch.float64) + 0.5) / side)
    return torch.cartesian_prod(quantiles, quantiles)


def known_total_correlation(W, x):
    covariance = W @ (x.T @ x / len(x)) @ W.T + SCALE**2 * torch.eye(2)
    return (covariance.diagonal().log().sum() - covariance.logdet()) / 2


def gradients(objective, program, x, seed=0):
    torch.manual_seed(seed)
    loss = Loss(objective, program)
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, list(program.parameters()), allow_unused=True)


def vae():
    torch.manual_seed(1)
    return VAE(8, 3, (5,))


@pytest.fixture
def x():
    return (torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.4).double()


@pytest.mark.parametrize("num_data", [None, 1000])
@pytest.mark.parametrize("shape", [(5, 3), (4, 5, 3)])
def test_the_parts_add_up_to_the_draws_of_the_kl(shape, num_data):
    loc = torch.randn(5, 3).expand(shape)
    q = dist.Normal(loc, 0.7).to_event(1)
    z = q.sample()
    log_p = dist.Normal(0.0, 1.0).expand(shape).to_event(1).log_prob(z).reshape(-1, 5)
    parts = kl_parts(q, z, log_p, num_data)
    assert torch.allclose(sum(parts), q.log_prob(z).reshape(-1, 5) - log_p, atol=1e-12)
    assert all(part.shape == log_p.shape for part in parts)


def test_a_latent_of_one_coordinate_has_no_total_correlation():
    q = dist.Normal(torch.randn(5), 0.7)
    z = q.sample((4,))
    parts = kl_parts(q.expand((4, 5)), z, torch.zeros(4, 5))
    assert float(parts.total_correlation.abs().max()) < 1e-12
    assert torch.allclose(sum(parts), q.log_prob(z))


def test_the_total_correlation_of_all_data_is_the_known_one():
    x = grid()
    q, N = dist.Normal((x @ W.T).expand(20, -1, 2), SCALE).to_event(1), len(x)
    torch.manual_seed(0)
    z = q.sample()
    log_p = dist.Normal(0.0, 1.0).expand(z.shape).to_event(1).log_prob(z)
    parts = kl_parts(q, z, log_p, N)
    found = parts.total_correlation - (2 - 1) * math.log(N)  # 1/N^2 for 1/N, in one joint and two marginals
    true = float(known_total_correlation(W, x))
    error = float(found.mean(1).std() / 20**0.5)
    assert true > 0.3 and abs(float(found.mean()) - true) < 4 * error + 2e-3
    covariance = W @ (x.T @ x / N) @ W.T + SCALE**2 * torch.eye(2)
    information = covariance.logdet() / 2 - 2 * math.log(SCALE)
    index_code = parts.index_code - math.log(N)
    assert abs(float(index_code.mean() - information)) < 4 * float(index_code.mean(1).std() / 20**0.5) + 2e-3
    half = kl_parts(dist.Normal((x @ W.T)[:, [0]], SCALE).to_event(1), z[0, :, [0]], log_p[:1], N)
    assert float(half.total_correlation.abs().max()) < 1e-12  # one coordinate has none


def test_the_gradient_is_that_of_the_known_total_correlation():
    x = grid(16)
    parameter = W.clone().requires_grad_()
    (true,) = torch.autograd.grad(known_total_correlation(parameter, x), parameter)
    found = []
    for seed in range(8):
        plain, weighed = (
            gradients(objective, Linear(W.clone()), x, seed)[1][0]
            for objective in (AnalyticKL(8), TotalCorrelation(AnalyticKL(8), 3.0))
        )
        found.append((weighed - plain) / 2)
    each = torch.stack(found)
    error = each.std(0) / len(found) ** 0.5
    assert ((each.mean(0) - true).abs() < 4 * error + 5e-3).all()
    assert (true.abs() > 20 * error).any()  # so that another sign or weight would be seen


def test_with_all_weights_one_it_is_the_elbo_to_the_bit(x):
    for inner in (Pathwise(num_particles=2), AnalyticKL(2)):
        program = vae()
        value, plain = gradients(inner, program, x)
        same, weighed = gradients(TotalCorrelation(inner, 1.0), program, x)
        assert torch.equal(value, same)
        assert all(torch.equal(a, b) for a, b in zip(plain, weighed, strict=True))
        assert TotalCorrelation(inner, 1.0).target is inner.target


@pytest.mark.parametrize("inner", [Pathwise(num_particles=2), AnalyticKL(2)])
def test_the_value_stays_the_bound(inner, x):
    program = vae()
    value, plain = gradients(inner, program, x)
    same, weighed = gradients(TotalCorrelation(inner, 6.0, alpha=0.5, gamma=2.0), program, x)
    assert torch.equal(value, same)
    assert not any(torch.allclose(a, b) for a, b in zip(plain[:2], weighed[:2], strict=True))
    named = TotalCorrelation(Beta(inner, 2.0), 6.0, gamma=0.5).target.name
    assert named == "elbo, beta 2, total correlation times 6, dimension-wise KL times 0.5"


def test_equal_weights_are_beta(x):
    program = vae()
    _, beta = gradients(Beta(Pathwise(num_particles=2), 3.0), program, x)
    _, parts = gradients(TotalCorrelation(Pathwise(num_particles=2), 3.0, 3.0, 3.0), program, x)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(beta, parts, strict=True))
    _, other = gradients(TotalCorrelation(Pathwise(num_particles=2), 3.0, 3.0, 2.0), program, x)
    assert not all(torch.allclose(a, b, atol=1e-10) for a, b in zip(beta, other, strict=True))


def test_the_number_of_data_leaves_the_gradient_alone_and_shifts_what_is_reported(x):
    program, found = vae(), []
    for num_data in (None, 6, 600):
        objective = TotalCorrelation(AnalyticKL(), 6.0, num_data=num_data)
        found.append((gradients(objective, program, x)[1], torch.stack(list(objective.reported().values()))))
    (first, told), (_, same), (other, shifted) = found
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(first, other, strict=True))
    assert torch.allclose(told, same)
    assert torch.allclose(shifted - told, math.log(100) * torch.tensor([1.0, 2.0, -3.0]))


def test_weights_of_the_whole_kl_multiply_all_parts_within_and_without(x):
    program = vae()
    _, without = gradients(Beta(TotalCorrelation(AnalyticKL(), 4.0), 0.5), program, x)
    _, within = gradients(TotalCorrelation(Beta(AnalyticKL(), 0.5), 4.0), program, x)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(without, within, strict=True))
    _, cold = gradients(Warmup(TotalCorrelation(AnalyticKL(), 4.0), 10), program, x)
    _, none = gradients(Beta(AnalyticKL(), 0.0), program, x)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(cold, none, strict=True))
    _, floored = gradients(FreeBits(TotalCorrelation(AnalyticKL(), 4.0), 1e6), program, x)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(floored, none, strict=True))


def test_a_batch_twice_has_the_parts_of_once():
    q, log_p = dist.Normal(torch.randn(5, 3), 0.7).to_event(1), torch.randn(1, 5)
    z, twice = q.sample(), dist.Normal(q.base_dist.loc.repeat(2, 1), 0.7).to_event(1)
    once = kl_parts(q, z, log_p, 100)
    for part, repeated in zip(once, kl_parts(twice, z.repeat(2, 1), log_p.repeat(1, 2), 100), strict=True):
        assert torch.allclose(part.repeat(1, 2), repeated, atol=1e-12)


def test_one_graph_gives_the_eager_values(x):
    program = vae()
    eager, graph = (
        Loss(TotalCorrelation(AnalyticKL(2), 6.0), program),
        Loss(TotalCorrelation(AnalyticKL(2), 6.0), program),
    )
    traced = compiled(graph, "graph")
    for seed in (0, 1):
        torch.manual_seed(seed)
        value = eager(x)
        wanted = torch.autograd.grad(value, list(program.parameters()))
        torch.manual_seed(seed)
        program.zero_grad()
        found = traced.backward(x)
        assert torch.allclose(found, value.detach(), atol=1e-12)
        assert all(torch.allclose(p.grad, g, atol=1e-12) for p, g in zip(program.parameters(), wanted, strict=True))
    assert torch.allclose(*(torch.stack(list(each.reported().values())) for each in (eager, graph)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TotalCorrelation(LeaveOneOut(num_particles=2), 2.0), "LeaveOneOut does not"),
        (lambda: TotalCorrelation(Pathwise(iwae, 2), 2.0), "wrap Pathwise"),
        (lambda: TotalCorrelation(StickTheLanding(), 2.0), "StickTheLanding does not"),
        (lambda: TotalCorrelation(pyro.infer.Trace_ELBO(), 2.0), "Trace_ELBO does not"),
        (lambda: TotalCorrelation(AnalyticKL(), -1.0), "beta must be finite"),
        (lambda: TotalCorrelation(AnalyticKL(), 1.0, alpha=math.inf), "alpha must be finite"),
        (lambda: TotalCorrelation(AnalyticKL(), 2.0, num_data=0), "num_data must be at least 1"),
    ],
)
def test_what_it_cannot_weigh_is_refused(make, told):
    with pytest.raises(ObjectiveError, match=told):
        make()


class TwoLatents(Linear):
    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("z_2", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(0.0 * z, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x @ self.W.T, SCALE).to_event(1))
            pyro.sample("z_2", dist.Normal(0.0, 1.0))


class Correlated(Linear):
    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.MultivariateNormal(x @ self.W.T, torch.eye(2)))


@pytest.mark.parametrize(
    ("program", "told"), [(TwoLatents, "the guide has z, z_2"), (Correlated, "each coordinate of latent 'z'")]
)
def test_programs_whose_parts_are_not_known_are_refused(program, told):
    with pytest.raises(ObjectiveError, match=told):
        Loss(TotalCorrelation(AnalyticKL(), 2.0), program(W.clone()))(grid(3))
