"""Batch normalization in a decoder in train mode: whose gradient is that of the batch's loss, and who must refuse."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.networks.leading_dims import LeadingDims
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.biased import BiasedStraightThrough
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.exact import Exact
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.local_expectation import LocalExpectation
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import (
    DoublyReparameterized,
    DoublyReparameterizedWakeSleep,
    StickTheLanding,
)
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.per_site import PerSite
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.pair import Pair, draw_from_pair
from tests.problems import Forced, entries, hermite_grid

B, D = 3, 4


class Normalized(nn.Module):
    """z ~ Bernoulli(.3) or N(0, 1), x ~ N(W batchnorm(V z), 1)."""

    def __init__(self, discrete):
        super().__init__()
        self.discrete, self.encoder = discrete, nn.Linear(D, 1)
        self.decoder = nn.Sequential(nn.Linear(1, 5), LeadingDims(nn.BatchNorm1d(5), 1), nn.Tanh(), nn.Linear(5, D))

    def model(self, x):
        with pyro.plate("batch", len(x)):
            prior = dist.Bernoulli(0.3 * torch.ones(1)) if self.discrete else dist.Normal(torch.zeros(1), 1.0)
            z = pyro.sample("z", prior.to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            out = self.encoder(x)
            pyro.sample("z", (dist.Bernoulli(logits=out) if self.discrete else dist.Normal(out, 1.0)).to_event(1))


def gradient_of(value, program):
    found = torch.autograd.grad(value, list(program.parameters()), allow_unused=True)
    pairs = zip(program.parameters(), found, strict=True)
    return torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for p, g in pairs])


def over_all_draws(program, x, objective):
    """The gradient of sum_b E[bound] by all 2^(K B) draws of the batch, and the mean of an objective's."""
    pair, K = Pair(program.model, program.guide, 1), objective.num_particles
    exact, mean = 0.0, 0.0
    for bits in itertools.product((0.0, 1.0), repeat=K * B):
        z = torch.tensor(bits).reshape(K, B, 1)
        with Forced({"z": z if K > 1 else z[0]}):
            drawn = draw_from_pair(pair, K, (x,), {})
            surrogate = objective.estimate(pair, x).surrogate
        probability = drawn.log_q.sum().exp()
        exact = exact + probability * objective.target(drawn.log_weights).sum()
        mean = mean + probability.detach() * surrogate.sum()
    return gradient_of(exact, program), gradient_of(mean, program)


def error_in_the_guide(program, found, exact):
    of_guide = entries(program, "encoder")
    return float((found - exact)[of_guide].norm() / exact[of_guide].norm())


SCORED = [
    lambda: ScoreFunction(elbo, 1),
    lambda: LeaveOneOut(elbo, 2),
    lambda: LeaveOneOut(iwae, 2),
]


@pytest.mark.parametrize("make", SCORED)
def test_credit_by_datum_is_wrong_where_data_depend_on_each_other_and_refused(make):
    torch.manual_seed(3)
    program, x = Normalized(discrete=True), torch.randn(B, D)
    exact, found = over_all_draws(program, x, make())
    assert error_in_the_guide(program, found, exact) > 0.05
    with pytest.raises(ObjectiveError, match=r"that datum's densities alone, but model site 'x'.*layer.eval\(\)"):
        Loss(make(), program)(x)
    program.decoder.eval()
    exact, found = over_all_draws(program, x, make())
    assert error_in_the_guide(program, found, exact) < 1e-10
    Loss(make(), program)(x).backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DisARM(elbo, 1),
        lambda: DisARM(iwae, 2),
        lambda: REBAR(),
        lambda: LocalExpectation(),
        lambda: PerSite({"z": DisARM()}),
        lambda: Exact(),
        lambda: ReweightedWakeSleep(2),
        lambda: Thermodynamic(num_particles=2),
    ],
)
def test_other_rules_that_credit_each_datum_refuse_too(make):
    program, x = Normalized(discrete=True), torch.randn(B, D)
    with pytest.raises(ObjectiveError, match="when other data of the batch have other draws"):
        Loss(make(), program)(x)
    program.decoder.eval()
    Loss(make(), program)(x).backward()


def test_a_guide_that_does_not_learn_needs_no_credit():
    program, x = Normalized(discrete=True), torch.randn(B, D)
    exact, found = over_all_draws(program, x, ScoreFunction(elbo, 1))
    of_model = entries(program, "decoder")
    torch.testing.assert_close(found[of_model], exact[of_model])
    program.encoder.requires_grad_(False)
    Loss(ScoreFunction(elbo, 1), program)(x).backward()


def test_biased_slopes_are_those_of_all_data():
    Loss(BiasedStraightThrough(), Normalized(discrete=True))(torch.randn(B, D)).backward()


class Neighbours(nn.Module):
    """Rows two by two: the decoder sees z_b and its neighbour's, so that one batch holds many batches of two."""

    def __init__(self, coupled):
        super().__init__()
        self.coupled, self.encoder, self.net = coupled, nn.Linear(1, 1), nn.Linear(1, 1)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            beside = z.unflatten(-2, (-1, 2)).flip(-2).flatten(-3, -2)
            loc = self.net(z + 0.7 * beside if self.coupled else z)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.8).to_event(1))


def by_quadrature(objective, program, x, nodes):
    """The mean gradient over the noise of K particles of two data."""
    K = objective.num_particles
    probability, noise = hermite_grid(nodes, 2 * K)
    T = len(probability)
    rows = x.expand(T, 2, 1).flatten(0, 1)  # (2 T, 1)
    z = program.encoder(rows) + 0.8 * noise.reshape(K, 2, T).transpose(1, 2).reshape(K, 2 * T, 1)
    with Forced({"z": z if K > 1 else z[0]}):
        surrogate = objective.estimate(Pair(program.model, program.guide, 1), rows).surrogate
    return gradient_of((probability.repeat_interleave(2) * surrogate).sum(), program)


PATHS = [
    (lambda: AnalyticKL(1), lambda: Pathwise(elbo, 1), True),
    (lambda: StickTheLanding(1), lambda: Pathwise(elbo, 1), True),
    (lambda: DoublyReparameterized(iwae, 1), lambda: Pathwise(elbo, 1), True),
    (lambda: DoublyReparameterized(elbo, 2), lambda: Pathwise(elbo, 2), True),
    (lambda: DoublyReparameterized(iwae, 2), lambda: Pathwise(iwae, 2), False),
    (lambda: GeneralizedDoublyReparameterized(2), lambda: Pathwise(iwae, 2), False),
]


@pytest.mark.parametrize(("make", "plain", "holds"), PATHS)
def test_paths_hold_for_the_batch_but_not_what_weighs_each_datums(make, plain, holds):
    torch.manual_seed(4)
    x = torch.tensor([[0.3], [-1.1]])
    for coupled in (False, True):
        program = Neighbours(coupled)
        torch.manual_seed(5)
        exact, found = (by_quadrature(o, program, x, nodes=9) for o in (plain(), make()))
        right = error_in_the_guide(program, found, exact) < 1e-3
        assert right == (holds or not coupled)
        if holds or not coupled:
            Loss(make(), program)(x).backward()
        else:
            with pytest.raises(ObjectiveError, match="when other data"):
                Loss(make(), program)(x)


def test_wake_sleep_along_paths_weighs_each_datums_too():
    with pytest.raises(ObjectiveError, match="when other data"):
        Loss(DoublyReparameterizedWakeSleep(2), Neighbours(True))(torch.randn(4, 1))


def test_one_check_leaves_batch_norm_as_it_was():
    program, x = Normalized(discrete=False), torch.randn(B, D)
    before = {name: buffer.clone() for name, buffer in program.named_buffers()}
    with torch.no_grad():
        Loss(Pathwise(iwae, 2), program.eval())(x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in program.named_buffers())
