"""A factor in the guide, which is a term and no draw: as Pyro defines it, with the right gradient, or refused."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pplvm.bounds import elbo, iwae
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from tests.problems import hermite_grid


class Factored(torch.nn.Module):
    def __init__(self, has_rsample):
        super().__init__()
        self.a, self.has_rsample = torch.nn.Parameter(torch.tensor([0.3, -0.4, 0.8])), has_rsample

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z, y = (pyro.sample(name, dist.Bernoulli(0.5)) for name in "zy")
            pyro.sample("x", dist.Normal(z + y, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.a[0] * x))
            pyro.sample("y", dist.Bernoulli(logits=self.a[1] * x))
            pyro.factor("f", self.a[2] * z, has_rsample=self.has_rsample)


@pytest.mark.parametrize("has_rsample", [True, False])
@pytest.mark.parametrize("make", [ScoreFunction, LeaveOneOut, lambda: LeaveOneOut(elbo, 3), DisARM])
def test_a_factor_of_the_guide(make, has_rsample):
    """It is no draw: two bits and its own slope, by summing all states."""
    torch.manual_seed(0)
    program, x = Factored(has_rsample), torch.full((200_000,), 0.7)
    bits = torch.cartesian_prod(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))  # (4, 2)
    log_q = dist.Bernoulli(logits=program.a[:2] * 0.7).log_prob(bits).sum(-1)
    log_p = dist.Normal(bits.sum(-1), 1.0).log_prob(torch.tensor(0.7)) - 2 * math.log(2)
    truth = torch.autograd.grad((log_q.exp() * (log_p - log_q - program.a[2] * bits[:, 0])).sum(), program.a)[0]
    found = torch.autograd.grad(-Loss(make(), program)(x), program.a)[0]
    known = slice(None) if has_rsample else slice(2)  # Pyro counts the other kind as a score, whose mean is zero
    assert (found - truth)[known].abs().max() < 0.01


@pytest.mark.parametrize(
    "make", [ScoreFunction, lambda: LeaveOneOut(elbo, 3), DisARM, LocalExpectation, lambda: PerSite(num_particles=2)]
)
def test_a_factor_without_a_path_is_part_of_the_score(make):
    """Pyro's definition, by summing all states: E[log w d (log q + log f)] + E[d log p], under every rule."""
    torch.manual_seed(0)
    program, x = Factored(has_rsample=False), torch.full((200_000,), 0.7)
    bits = torch.cartesian_prod(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))  # (4, 2)
    log_q = dist.Bernoulli(logits=program.a[:2] * 0.7).log_prob(bits).sum(-1)
    log_f = program.a[2] * bits[:, 0]
    log_p = dist.Normal(bits.sum(-1), 1.0).log_prob(torch.tensor(0.7)) - 2 * math.log(2)
    q, log_w = log_q.exp().detach(), (log_p - log_q - log_f).detach()
    truth = torch.autograd.grad((q * log_w * (log_q + log_f)).sum(), program.a, retain_graph=True)[0]
    of_baseline = torch.autograd.grad((q * log_f).sum(), program.a)[0] * (q * log_w).sum()  # f's score has a mean
    found = torch.autograd.grad(-Loss(make(), program)(x), program.a)[0]
    if make().num_particles > 1:
        truth[2] = truth[2] - of_baseline[2]  # leave-one-out takes the others' log w for a baseline
    assert (found - truth).abs().max() < 0.012 and abs(truth[2] + (q * bits[:, 0]).sum()) > 0.1  # no term of its own


class Scaled(torch.nn.Module):
    """z = exp(a) u, u ~ N(m, 1): q(z) = N(exp(a) m, exp(2 a)), its Jacobian in a factor or in the Delta's density."""

    def __init__(self, how, has_rsample=True):
        super().__init__()
        self.m, self.a = torch.nn.Parameter(torch.tensor(0.4)), torch.nn.Parameter(torch.tensor(-0.3))
        self.how, self.has_rsample = how, has_rsample

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z.square(), 1.0), obs=x)

    def guide(self, x):
        log_density = -self.a.expand(len(x))
        with pyro.plate("batch", len(x)):
            if self.how == "plain":
                pyro.sample("z", dist.Normal(self.a.exp() * self.m, self.a.exp()).expand([len(x)]))
                return
            u = pyro.sample("u", dist.Normal(self.m, 1.0).expand([len(x)]), infer={"is_auxiliary": True})
            if self.how == "factor":
                pyro.factor("jacobian", log_density, has_rsample=self.has_rsample)
                log_density = 0.0 * log_density
            pyro.sample("z", dist.Delta(self.a.exp() * u, log_density=log_density.expand(u.shape)))


def truth_of(program, x):
    """The elbo and its gradient in (m, a), by quadrature over the noise."""
    probability, noise = hermite_grid(20, 1)
    z = program.a.exp() * (program.m + noise[0])
    log_q = dist.Normal(program.a.exp() * program.m, program.a.exp()).log_prob(z)
    log_w = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 1.0).log_prob(x) - log_q
    value = (probability * log_w).sum()
    return value.detach(), torch.stack(torch.autograd.grad(value, [program.m, program.a]))


@pytest.mark.parametrize("how", ["plain", "factor", "delta"])
@pytest.mark.parametrize(
    "make",
    [
        Pathwise,
        AnalyticKL,
        lambda: StickTheLanding(5),
        lambda: LeaveOneOut(elbo, 3),
        lambda: Beta(AnalyticKL(), 1.0),
        lambda: Beta(StickTheLanding(2), 1.0),
    ],
)
def test_a_change_of_variables_that_learns(make, how):
    """A Jacobian has no score: held still with the rest of the guide's density, its own slope would be lost."""
    torch.manual_seed(0)
    program, x = Scaled(how), torch.full((100_000,), 0.8)
    value, truth = truth_of(program, x[0])
    loss = -Loss(make(), program)(x)
    found = torch.stack(torch.autograd.grad(loss, [program.m, program.a]))
    assert abs(loss.detach() - value) < 0.02 and (found - truth).abs().max() < 0.06 and truth.abs().min() > 0.3


@pytest.mark.parametrize("make", [lambda: DoublyReparameterized(iwae, 3), lambda: ReweightedWakeSleep(3)])
def test_what_needs_a_density_for_every_draw_refuses_a_factor(make):
    class Plain(Scaled):
        def guide(self, x):
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.m, 1.0).expand([len(x)]))
                pyro.factor("extra", self.a * x, has_rsample=True)

    with pytest.raises(ObjectiveError, match="guide site 'extra' is a factor, which is no draw"):
        Loss(make(), Plain("plain"))(torch.zeros(2))


def test_a_factor_that_does_not_say_how_it_is_differentiated_is_refused():
    for program, words in (
        (Factored(None), "'f' is a factor that does not say how it is differentiated.*has_rsample=True"),
        (Jacobian(), "'jacobian' is a factor with has_rsample=False, but reads site 'u'.*has_rsample=True"),
    ):
        with pytest.raises(ProgramError, match=words):
            draw_particles(program.model, program.guide, torch.zeros(2))


class Jacobian(Scaled):
    def __init__(self):
        super().__init__("factor")

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            u = pyro.sample("u", dist.Normal(self.m, 1.0).expand([len(x)]), infer={"is_auxiliary": True})
            pyro.factor("jacobian", -u, has_rsample=False)
            pyro.sample("z", dist.Delta(u.exp()))


def test_weights_by_name_want_latents_that_stand_for_themselves():
    """The KL of z is spread over z, its auxiliary draw and its Jacobian: one weight for all, or none by name."""
    for make in (lambda: Beta(Pathwise(), {"z": 2.0}), lambda: FreeBits(AnalyticKL(), 0.5)):
        with pytest.raises(ObjectiveError, match="one latent at a time, but guide site 'u' is auxiliary"):
            Loss(make(), Scaled("factor"))(torch.zeros(2))
