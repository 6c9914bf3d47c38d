"""The residual normal: its KL is the slide's formula, to the last bit at zero, right elsewhere, and found."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from pplvm.distributions.residual_normal import ResidualNormal
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.particles.pair import draw_from_pair, pair_up


def drawn(*shape):
    """Parameters of a residual normal, of this shape."""
    return torch.randn(shape), torch.randn(shape).exp(), torch.randn(shape), torch.randn(shape)


def plain(q):
    return dist.Normal(q.loc, q.scale)


def test_it_is_the_normal_that_its_residuals_give():
    m, s, d, ds = drawn(2, 3)
    q, same = ResidualNormal(m, s, d, ds), dist.Normal(m + s * d, s * ds.exp())
    value = same.sample((5,))
    assert torch.equal(q.log_prob(value), same.log_prob(value))
    for name in ("mean", "stddev", "batch_shape", "event_shape"):
        assert (getattr(q, name) == getattr(same, name)) is True or torch.equal(getattr(q, name), getattr(same, name))
    torch.manual_seed(1)
    found = q.rsample((4,))
    torch.manual_seed(1)
    assert torch.equal(found, same.rsample((4,))) and q.has_rsample


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_residuals_it_is_the_prior_to_the_last_bit(dtype):
    m, s = (each.to(dtype) for each in drawn(1000)[:2])
    p, q = dist.Normal(m, s), ResidualNormal(m, s, torch.zeros_like(m), torch.zeros_like(m))
    value = p.sample()
    assert torch.equal(kl_divergence(q, p), torch.zeros_like(m))
    assert torch.equal(q.log_prob(value), p.log_prob(value))
    assert kl_divergence(q, p).dtype is dtype


def test_under_its_own_prior_the_kl_is_the_formula_of_the_residuals():
    """Free of the prior's parameters, which moves neither value nor gradient."""
    m, s, d, ds = (each.requires_grad_() for each in drawn(50))
    kl = kl_divergence(ResidualNormal(m, s, d, ds), dist.Normal(m, s))
    torch.testing.assert_close(kl, (d**2 + (2 * ds).exp() - 1 - 2 * ds) / 2, rtol=1e-12, atol=1e-12)
    of_prior = torch.autograd.grad(kl.sum(), (m, s))
    assert all(each.abs().max() < 1e-12 for each in of_prior)


def test_the_kl_is_torchs_under_any_prior_and_the_formula_of_the_residuals_is_not():
    q, p = ResidualNormal(*drawn(50)), dist.Normal(*drawn(50)[:2])
    expected = kl_divergence(plain(q), p)
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-12, atol=1e-12)
    in_residuals = (q.d_loc**2 + (2 * q.d_log_scale).exp() - 1 - 2 * q.d_log_scale) / 2
    assert (in_residuals - expected).abs().max() > 1  # the wrong one, which most code has, is seen


def test_between_two_of_them():
    q, p = ResidualNormal(*drawn(50)), ResidualNormal(*drawn(50))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(plain(q), plain(p)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kl_divergence(plain(q), p), kl_divergence(plain(q), plain(p)), rtol=1e-12, atol=1e-12)
    assert torch.equal(kl_divergence(q, q), torch.zeros(50))


def test_expanding_keeps_the_residuals():
    q = ResidualNormal(*drawn(3)).expand([4, 3])
    assert type(q) is ResidualNormal and q.batch_shape == (4, 3) and q.d_loc.shape == q.prior_scale.shape == (4, 3)
    prior = dist.Normal(q.prior_loc, q.prior_scale)
    assert torch.equal(kl_divergence(q, prior), kl_divergence(q.expand([4, 3]), prior))
    events, of = q.to_event(1), prior.to_event(1)
    assert events.batch_shape == (4,) and events.event_shape == (3,)
    assert torch.equal(kl_divergence(events.expand([2, 4]), of.expand([2, 4]))[0], kl_divergence(q, prior).sum(-1))


def test_parameters_are_broadcast_and_validated():
    q = ResidualNormal(0.0, torch.ones(2, 1), torch.zeros(3), 0.0)
    assert q.batch_shape == (2, 3) and q.support is dist.constraints.real
    assert ResidualNormal(0.0, 1.0, 0.0, 0.0).batch_shape == ()
    for wrong in ((0.0, -1.0, 0.0, 0.0), (0.0, 1.0, float("nan"), 0.0)):
        with pytest.raises(ValueError):
            ResidualNormal(*map(torch.tensor, wrong))


class Pair(nn.Module):
    """z_1 of a learned prior and z_2 given z_1, with a residual posterior whose prior may be another."""

    def __init__(self, own_prior=False):
        super().__init__()
        self.prior, self.moved = nn.Parameter(torch.randn(2, 3)), nn.Parameter(0.3 * torch.randn(2, 2, 3))
        self.own = nn.Parameter(torch.randn(2, 3)) if own_prior else None
        self.slope = nn.Parameter(torch.randn(3, 3))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z_1 = pyro.sample("z_1", dist.Normal(self.prior[0], self.prior[1].exp()).to_event(1))
            z_2 = pyro.sample("z_2", dist.Normal(z_1 @ self.slope, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z_2, 1.0).to_event(1), obs=x)

    def guide(self, x):
        m, s = self.prior if self.own is None else self.own
        d, ds = self.moved
        with pyro.plate("batch", len(x)):
            z_1 = pyro.sample("z_1", ResidualNormal(m, s.exp(), d[0] * x, ds[0]).to_event(1))
            pyro.sample("z_2", ResidualNormal(z_1 @ self.slope, 1.0, d[1] * x, ds[1]).to_event(1))


@pytest.fixture
def x():
    return torch.randn(4, 3)


@pytest.fixture(params=[False, True], ids=["one prior", "another prior"])
def program(request):
    return Pair(request.param)


@pytest.mark.parametrize("K", [1, 5])
def test_the_closed_form_is_found_in_plates_events_and_particles(program, x, K):
    pair = pair_up(program.model, program.guide, (x,), {})
    found = closed_forms(draw_from_pair(pair, K, (x,), {}))
    assert set(found) == {"z_1", "z_2"}


def test_it_agrees_with_the_kl_by_draws(program, x):
    K = 20_000
    drawn = draw_from_pair(pair_up(program.model, program.guide, (x,), {}), K, (x,), {})
    for name, closed in closed_forms(drawn).items():
        term = drawn.log_q_sites[name] - drawn.log_p_sites[name]
        apart = term - closed
        error = apart.std(0) / K**0.5
        assert (apart.mean(0).abs() < 4 * error).all(), name


def test_pathwise_and_analytic_gradients_of_it_agree_in_one_graph(program, x):
    for objective in (AnalyticKL(num_particles=2), Pathwise(num_particles=2)):
        loss = Loss(objective, program)
        values = []
        for each in (loss, compiled(loss, "graph")):
            torch.manual_seed(3)
            each(x)  # traces
            torch.manual_seed(4)
            values.append(each(x))
        torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)


def test_vmap():
    m, s, d, ds = drawn(5, 3)
    value = torch.randn(5, 3)
    by_row = torch.func.vmap(lambda m, s, d, ds, v: ResidualNormal(m, s, d, ds, validate_args=False).log_prob(v))
    torch.testing.assert_close(by_row(m, s, d, ds, value), ResidualNormal(m, s, d, ds).log_prob(value))
