"""AR(1) beside the multivariate normal that it is, and its KL from independent normals, whose least is known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.distributions import kl_divergence

from pplvm.distributions.autoregressive_gaussian import AutoregressiveGaussian, least_divergence
from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, closed_forms
from pplvm.particles.draw import draw_particles

ALPHA = torch.tensor([0.3, 0.7, 0.95], dtype=torch.float64)


def multivariate(alpha, n):
    """The same distribution of (d, n) values: covariance alpha^|s - t| for each coordinate."""
    steps = torch.arange(n)
    covariance = alpha[..., None, None] ** (steps[:, None] - steps).abs()
    return dist.MultivariateNormal(alpha.new_zeros(n), covariance).to_event(1)


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_it_is_the_multivariate_normal_of_its_covariance(n):
    value = torch.randn(4, 7, n, 3)
    found, other = AutoregressiveGaussian(ALPHA, n), multivariate(ALPHA, n)
    torch.testing.assert_close(found.log_prob(value), other.log_prob(value.mT), atol=1e-10, rtol=0)
    factor = found._factor().permute(2, 0, 1)  # (d, n, n)
    torch.testing.assert_close(factor @ factor.mT, other.base_dist.covariance_matrix, atol=1e-12, rtol=0)
    assert (
        not torch.allclose(AutoregressiveGaussian(ALPHA.flip(0), n).log_prob(value), other.log_prob(value.mT)) or n == 1
    )


def test_shapes_moments_and_draws():
    alpha = torch.tensor([[0.2, 0.9], [0.5, 0.6]])
    found = AutoregressiveGaussian(alpha, 4)
    assert (found.batch_shape, found.event_shape) == ((2,), (4, 2))
    assert found.expand((3, 2)).rsample((5,)).shape == (5, 3, 2, 4, 2) and found.has_rsample
    assert found.to_event(1).event_shape == (2, 4, 2)
    torch.manual_seed(1)
    draws = found.sample((20000,))  # (20000, 2, 4, 2)
    assert ((draws.mean(0) - found.mean).abs() < 5 / 20000**0.5).all()
    assert ((draws.square().mean(0) - found.variance).abs() < 5 * (2 / 20000) ** 0.5).all()
    lag = (draws[:, :, 1:] * draws[:, :, :-1]).mean((0, 2))
    assert ((lag - alpha).abs() < 5 * (2 / 20000) ** 0.5).all()
    assert found.support.check(draws).all() and AutoregressiveGaussian(alpha.float(), 4).sample().dtype is torch.float32


def test_slopes():
    alpha, value, noise_seed = ALPHA.clone().requires_grad_(), torch.randn(2, 4, 3, requires_grad=True), 3
    assert gradcheck(lambda a, v: AutoregressiveGaussian(a, 4).log_prob(v), (alpha, value))

    def draw(a):
        torch.manual_seed(noise_seed)
        return AutoregressiveGaussian(a, 4).rsample((2,))

    assert gradcheck(draw, (alpha,))
    for end in (0.0, 1 - 1e-6):  # finite in single precision, close to the ends
        a = torch.tensor([end], dtype=torch.float32, requires_grad=True)
        fn = AutoregressiveGaussian(a, 4)
        z = fn.rsample((3,))
        (slope,) = torch.autograd.grad(fn.log_prob(z.detach()).sum() + z.sum(), a)
        assert slope.isfinite().all()


def test_at_alpha_zero_it_is_the_standard_normal():
    value = torch.randn(3, 4, 2)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(value).sum((-1, -2))
    torch.testing.assert_close(AutoregressiveGaussian(torch.zeros(2), 4).log_prob(value), expected)


@pytest.mark.parametrize("alpha", [-0.1, 1.0, 1.5])
def test_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match="constraint"):
        AutoregressiveGaussian(torch.tensor([0.5, alpha]), 3)


@pytest.mark.parametrize("shape, events", [((1, 2), 2), ((5, 1), 2), ((4, 2), 2), ((5, 2), 1), ((3, 5, 2), 3)])
def test_normals_of_another_event_shape_have_no_divergence_that_is_broadcast(shape, events):
    prior = AutoregressiveGaussian(torch.tensor([0.5, 0.2]), length=5)
    with pytest.raises(NotImplementedError):
        kl_divergence(dist.Normal(torch.zeros(shape), 1.0).to_event(events), prior)


def test_other_arguments_are_refused():
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        AutoregressiveGaussian(torch.tensor([0.5]), 0)
    with pytest.raises(ValueError, match=r"alpha has no dimension: give one number a coordinate, \(d,\)"):
        AutoregressiveGaussian(torch.tensor(0.5), 3)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_divergence_is_that_of_multivariate_normals(n):
    loc, scale = torch.randn(7, n, 3), torch.rand(7, n, 3) + 0.2
    for q in (dist.Normal(loc, scale).to_event(2), dist.Independent(dist.Normal(loc, scale).to_event(1), 1)):
        found = kl_divergence(q, AutoregressiveGaussian(ALPHA, n))
        full = dist.MultivariateNormal(loc.mT, scale_tril=scale.mT.diag_embed()).to_event(1)
        torch.testing.assert_close(found, kl_divergence(full, multivariate(ALPHA, n)), atol=1e-10, rtol=1e-10)
    with pytest.raises(NotImplementedError):
        kl_divergence(dist.Laplace(loc, scale).to_event(2), AutoregressiveGaussian(ALPHA, n))


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize("alpha", [0.3, 0.7, 0.95])
def test_the_least_divergence_is_the_formula(n, alpha):
    """A descent from elsewhere ends at the formula, and at the variances that it is attained by."""
    alpha = torch.tensor([alpha])
    loc, log_scale = torch.ones(n, 1).requires_grad_(), torch.zeros(n, 1).requires_grad_()
    of = lambda m, s: kl_divergence(dist.Normal(m, s.exp()).to_event(2), AutoregressiveGaussian(alpha, n))
    descent = torch.optim.LBFGS(
        [loc, log_scale], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure():
        descent.zero_grad()
        value = of(loc, log_scale)
        value.backward()
        return value

    descent.step(closure)
    loc, log_scale = loc.detach(), log_scale.detach()
    torch.testing.assert_close(of(loc, log_scale), least_divergence(alpha, n), atol=1e-8, rtol=0)
    if n > 1:
        variances = torch.full((n, 1), float((1 - alpha**2) / (1 + alpha**2)))
        variances[0] = variances[-1] = float(1 - alpha**2)
        torch.testing.assert_close((2 * log_scale).exp(), variances, atol=1e-4, rtol=0)
        assert least_divergence(alpha, n) > 0.04


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.free = nn.Parameter(ALPHA.logit())
        self.encoder = nn.Linear(12, 24)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", AutoregressiveGaussian(self.free.sigmoid(), 4))
            pyro.sample("x", dist.Normal(z.flatten(-2), 1.0).to_event(1), obs=x)

    def guide(self, x):
        loc, log_scale = self.encoder(x).unflatten(-1, (2, 4, 3)).unbind(-3)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(2))


@pytest.mark.parametrize("K", [1, 3])
def test_the_divergence_is_found_in_programs_and_agrees_with_draws(K):
    program, x = Chain(), torch.randn(5, 12)
    found = draw_particles(program.model, program.guide, x, num_particles=K)
    (divergence,) = closed_forms(found).values()
    assert divergence.shape in ((5,), (K, 5))
    many = draw_particles(program.model, program.guide, x, num_particles=4000)
    drawn = (many.log_q_sites["z"] - many.log_p_sites["z"]).detach()
    assert ((drawn.mean(0) - divergence.reshape(-1, 5)[0]).abs() < 4.5 * drawn.std(0) / 4000**0.5).all()


def test_one_graph():
    program, x, found = Chain(), torch.randn(5, 12), []
    loss = Loss(AnalyticKL(2), program)
    for each in (loss, compiled(loss, "graph")):
        loss.zero_grad()
        torch.manual_seed(2)
        value = each(x)
        value.backward()
        found.append(torch.cat([value.detach()[None], *[p.grad.flatten() for p in loss.parameters()]]))
    torch.testing.assert_close(*found)


def test_values_may_be_mapped_over():
    values = torch.randn(6, 4, 3)
    of = lambda v, a: AutoregressiveGaussian(a, 4, validate_args=False).log_prob(v)
    torch.testing.assert_close(torch.func.vmap(of, (0, None))(values, ALPHA), of(values, ALPHA))
