"""The covariance gradient of the thermodynamic objective against its sum over all states, and over all draws."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pplvm.bounds import elbo, tvo
from pplvm.objectives.detached import draw_detached
from pplvm.objectives.objective import Estimate, Loss, ObjectiveError
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from pplvm.programs.vae import VAE
from tests.problems import exact_gradient, exact_mean, exact_moments, linear_gaussian, small_net, two_data

LOG_SPACED = (0.0, 0.1, 0.3, 1.0)


def true_gradient(net, x, objective):
    log_p, log_q = enumerate_guide(pair_up(net.model, net.guide, (x,), {}), (x,), {})
    value = objective.target.of_tables(log_p, log_q).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))])


@pytest.mark.parametrize("K", [2, 3])
def test_a_single_step_is_the_elbo_without_bias(K):
    net, x = small_net(), two_data()[:1]
    mean, variance, value = exact_moments(Thermodynamic(1, K), net, x)
    truth, bound = exact_gradient(net, x, elbo, 1)
    assert (mean - truth).abs().max() < 1e-10 and abs(value - bound) < 1e-10
    assert variance.sum() > 1e-3


class NoCovariance(Thermodynamic):
    """Only the mean of df: what is left if the weights are taken for constants."""

    def estimate(self, pair, *args, **kwargs):
        drawn = draw_detached(pair, self.num_particles, args, kwargs)
        return Estimate(self.bound(drawn.log_weights.detach()), self.bound(drawn.log_weights))


def gaps(make, net, x):
    truth = true_gradient(net, x, make(2))
    return [float((exact_mean(make(K), net, x) - truth).norm() / truth.norm()) for K in (3, 6, 12)]


@pytest.mark.parametrize("partition", [2, LOG_SPACED])
def test_the_bias_vanishes_as_1_over_k(partition):
    """Over all draws; a mutant without the covariance keeps its bias."""
    net, x = small_net((1,)), two_data()[:1]
    few, more, many = gaps(lambda K: Thermodynamic(partition, K), net, x)
    assert many < 0.6 * more < 0.6 * 0.75 * few and many < 0.05
    assert gaps(lambda K: NoCovariance(partition, K), net, x)[2] > 0.3


def test_it_reports_the_bound_of_the_same_weights():
    net, x = small_net((2, 2)), two_data()[:1]
    _, _, value = exact_moments(Thermodynamic(LOG_SPACED, 2), net, x)
    assert value == pytest.approx(exact_gradient(net, x, tvo(LOG_SPACED), 2)[1])
    assert Thermodynamic(LOG_SPACED).target == Thermodynamic([0, 0.1, 0.3, 1], 8).target != Thermodynamic(3).target


def test_a_gaussian_guide():
    """x | z ~ N(z, s^2): every p^beta q^(1 - beta) is Gaussian, so the sum has a closed form."""
    program = linear_gaussian(1, 1)
    x, betas, K = torch.tensor([[0.7]]), (0.0, 0.3, 1.0), 400
    w, b, s = program.weight[0, 0], program.bias[0], program.s
    loc, scale = program.encoder(x)[0, 0], program.log_scale.exp()[0]
    precision = 1 + w**2 / s**2
    posterior = w * (x[0, 0] - b) / s**2 / precision
    truth = torch.zeros(())
    for beta, above in zip(betas[:-1], betas[1:], strict=True):
        both = beta * precision + (1 - beta) / scale**2
        mean = (beta * precision * posterior + (1 - beta) * loc / scale**2) / both
        from_posterior, from_guide = ((mean - a) ** 2 + 1 / both for a in (posterior, loc))  # E (z - a)^2
        of_p = program.log_evidence(x)[0] + precision.log() / 2 - precision * from_posterior / 2
        of_q = -scale.log() - from_guide / scale**2 / 2
        truth = truth + (above - beta) * (of_p - of_q)
    parameters = list(program.parameters())
    truth = torch.cat([g.flatten() for g in torch.autograd.grad(truth, parameters)])
    pair = pair_up(program.model, program.guide, (x,), {})
    found = []
    for _ in range(40):
        surrogate = Thermodynamic(betas, K).estimate(pair, x.expand(50, -1)).surrogate.mean()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, parameters)]))
    found = torch.stack(found)
    z = (found.mean(0) - truth) / (found.std(0) / 40**0.5)
    assert z.abs().max() < 4.5, z  # of 2,000 draws of 400 particles, whose bias is far below one error
    assert (found.mean(0) - truth).norm() < 0.02 * truth.norm()


class Hiding(VAE):
    def __init__(self, fn):
        super().__init__(8, 2, (5,))
        self.fn = fn

    def model(self, x):
        is_point = self.fn is dist.Delta
        with pyro.plate("batch", len(x)):
            pyro.sample("z", (dist.Normal(self.zeros, 1.0) if is_point else self.fn(self.zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(0.5).expand([8]).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.fn(self.encoder(x)[..., :2]).to_event(1))


@pytest.mark.parametrize(
    "fn, words", [(dist.Delta, "a Delta"), (lambda loc: dist.Normal(loc, 1.0).mask(torch.tensor(False)), "masked")]
)
def test_draws_without_a_density_are_refused(fn, words):
    with pytest.raises(ObjectiveError, match=f"'z' is {words}.*use Pathwise or LeaveOneOut"):
        Loss(Thermodynamic(), Hiding(fn))(torch.ones(3, 8))


def test_one_particle_has_no_covariance():
    with pytest.raises(ObjectiveError, match="at least 2, got 1"):
        Thermodynamic(5, 1)
    with pytest.raises(ValueError, match="must rise from 0 to 1"):
        Thermodynamic((0.2, 1))
