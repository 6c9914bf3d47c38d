"""Distributions at a temperature: noise scaled, all else as it was."""

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms as T

from pplvm.distributions.autoregressive_gaussian import AutoregressiveGaussian
from pplvm.distributions.floor import Floor
from pplvm.distributions.full_covariance_normal import FullCovarianceNormal
from pplvm.distributions.logistic import Logistic
from pplvm.distributions.mixture_prior import MixturePrior
from pplvm.distributions.power_spherical import PowerSpherical
from pplvm.distributions.residual_normal import ResidualNormal
from pplvm.distributions.spherical_uniform import SphericalUniform
from pplvm.distributions.temperature import at_temperature

loc, scale = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.3, 1.0, 2.0])
tril = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-0.3, 0.2, 0.7]])

NORMALS = {
    "normal": lambda: dist.Normal(loc, scale),
    "independent": lambda: dist.Normal(loc, scale).to_event(1),
    "expanded": lambda: dist.Normal(loc, scale).to_event(1).expand([4, 2]),
    "masked": lambda: dist.Normal(loc, scale).mask(torch.tensor([True, False, True])),
    "joint": lambda: dist.MultivariateNormal(loc, scale_tril=tril),
    "low rank": lambda: dist.LowRankMultivariateNormal(loc, tril[:, :1], scale),
    "residual": lambda: ResidualNormal(loc, scale, scale, 0.1 * loc),
    "full covariance": lambda: FullCovarianceNormal(loc, scale_tril=tril),
    "expanded again": lambda: dist.MultivariateNormal(loc, scale_tril=tril).expand([2]).expand([4, 2]),
}


@pytest.mark.parametrize("make", NORMALS.values(), ids=NORMALS)
@pytest.mark.parametrize("temperature", [0.3, 1.7])
def test_means_stay_and_deviations_are_multiplied(make, temperature):
    fn, found = make(), at_temperature(make(), temperature)
    assert (found.batch_shape, found.event_shape) == (fn.batch_shape, fn.event_shape)
    torch.testing.assert_close(found.mean, fn.mean)
    torch.testing.assert_close(found.variance, temperature**2 * fn.variance)


@pytest.mark.parametrize("name", ["normal", "independent", "expanded", "joint"])
def test_the_noise_is_that_of_the_distribution(name):
    fn, found = NORMALS[name](), at_temperature(NORMALS[name](), 0.4)
    torch.manual_seed(1)
    away = fn.sample((5,)) - fn.mean
    torch.manual_seed(1)
    torch.testing.assert_close(found.sample((5,)) - fn.mean, 0.4 * away)


def test_a_flow_has_its_base_at_the_temperature():
    flow = [T.AffineTransform(1.0, 2.0), T.SigmoidTransform()]
    make = lambda scale: dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), flow)
    found = at_temperature(make(scale), 0.5)
    torch.manual_seed(1)
    drawn = found.sample((4,))
    torch.manual_seed(1)
    torch.testing.assert_close(drawn, make(0.5 * scale).sample((4,)))
    torch.testing.assert_close(found.log_prob(drawn), make(0.5 * scale).log_prob(drawn))


def test_a_covariance_is_scaled_by_the_square():
    found = at_temperature(NORMALS["joint"](), 0.5)
    torch.testing.assert_close(found.covariance_matrix, 0.25 * tril @ tril.T)
    found = at_temperature(NORMALS["low rank"](), 0.5)
    torch.testing.assert_close(found.covariance_matrix, 0.25 * (tril[:, :1] @ tril[:, :1].T + scale.diag()))


def test_an_autoregression_keeps_its_correlations():
    fn = AutoregressiveGaussian(torch.tensor([0.3, 0.9]), length=4).expand([5])
    found = at_temperature(fn, 0.5)
    assert (found.batch_shape, found.event_shape) == (fn.batch_shape, fn.event_shape) and found.has_rsample
    torch.manual_seed(1)
    drawn = found.sample((3,))
    torch.manual_seed(1)
    torch.testing.assert_close(drawn, 0.5 * fn.sample((3,)))
    lag = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    chains = [dist.MultivariateNormal(torch.zeros(4), 0.25 * alpha**lag) for alpha in (0.3, 0.9)]
    true = sum(chain.log_prob(drawn[..., d].clone()) for d, chain in enumerate(chains))
    torch.testing.assert_close(found.log_prob(drawn.clone()), true, atol=1e-10, rtol=0)
    torch.testing.assert_close(at_temperature(found, 0.5).log_prob(drawn), at_temperature(fn, 0.25).log_prob(drawn))
    assert at_temperature(fn.to_event(1), 0.5).event_shape == (5, 4, 2)


@pytest.mark.parametrize("kind", [dist.Categorical, dist.OneHotCategorical])
def test_categories_have_their_logits_divided(kind):
    fn = kind(logits=loc).expand([4])
    found = at_temperature(fn, 0.5)
    assert (found.batch_shape, found.event_shape) == (fn.batch_shape, fn.event_shape)
    states = fn.enumerate_support()
    torch.testing.assert_close(found.log_prob(states).exp().T, (2 * loc).softmax(-1).expand(4, 3))
    torch.testing.assert_close(at_temperature(found, 2.0).log_prob(states), fn.log_prob(states))
    positions = kind(logits=tril).to_event(1)
    each = positions.sample((5,))
    at_parts = kind(logits=tril / 0.3).log_prob(each).sum(-1)
    torch.testing.assert_close(at_temperature(positions, 0.3).log_prob(each), at_parts)


def test_a_point_stays_and_another_distribution_says_itself_what_it_is():
    point = dist.Delta(loc)
    assert at_temperature(point, 0.5) is point

    class Own(dist.Laplace):
        def at_temperature(self, temperature):
            return Own(self.loc, temperature * self.scale)

    assert torch.equal(at_temperature(Own(loc, scale).to_event(1), 0.5).base_dist.scale, 0.5 * scale)


@pytest.mark.parametrize(
    "fn, named",
    [
        (dist.Bernoulli(logits=loc).to_event(1), "and Bernoulli is neither"),
        (dist.Poisson(scale), "and Poisson is neither"),
        (dist.Gamma(scale, 1.0), "and Gamma is neither"),
        (dist.VonMises(loc, scale), "and VonMises is neither"),
        (dist.TransformedDistribution(dist.Uniform(loc, loc + 1), [T.SigmoidTransform()]), "and Uniform is neither"),
        (
            dist.MixtureSameFamily(dist.Categorical(logits=loc), dist.Normal(loc, scale)),
            "and MixtureSameFamily is neither",
        ),
        (dist.Exponential(scale), "and Exponential is neither"),
        (MixturePrior(dist.Normal(tril, 1.0).to_event(1)), "and MixturePrior is neither"),
        (PowerSpherical(torch.eye(3), torch.ones(3)), "and PowerSpherical is neither"),
        (SphericalUniform(3), "and SphericalUniform is neither"),
        (Logistic(loc, scale).to_event(1), "and Logistic is neither"),
        (Floor(scale, levels=4), "and Floor is neither"),
    ],
)
def test_what_has_none_is_refused(fn, named):
    with pytest.raises(ValueError, match=named):
        at_temperature(fn, 0.5)
