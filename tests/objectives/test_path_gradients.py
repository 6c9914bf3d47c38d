"""Scores moved onto paths: exact means by quadrature, draws by hand, laws, and mutants that fail."""

import pytest
import torch
from pyro import poutine

from pplvm.bounds import elbo, iwae, jackknife, renyi, tvo
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, DoublyReparameterizedWakeSleep, StickTheLanding
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.targets import WAKE_SLEEP
from pplvm.objectives.tempered import Beta
from pplvm.objectives.thermodynamic import Thermodynamic
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.pair import pair_up
from tests.problems import (
    Forced,
    LinearGaussian,
    entries,
    linear_gaussian,
    per_row_gradients,
    quadrature_mean,
    sampled_gradients,
)

X = torch.tensor([[0.7]], dtype=torch.float64)


def one_latent() -> LinearGaussian:
    """One Gaussian latent and pixel, its guide off the posterior in mean and width."""
    program = LinearGaussian(torch.tensor([[1.3]]), torch.tensor([0.4]), 0.9)
    with torch.no_grad():
        program.encoder.weight.fill_(0.2)
        program.encoder.bias.fill_(-0.1)
        program.log_scale.fill_(-0.2)
    return program


def mean_of(objective, program, nodes=50):
    paths = lambda noise: {"z": program.encoder(X) + program.log_scale.exp() * noise}
    return quadrature_mean(objective, program, X, paths, nodes, dims=1)


class WrongFactor(DoublyReparameterized):
    """The square of the weights, right for iwae, under another bound."""

    def __init__(self, bound, num_particles):
        super().__init__(bound, num_particles)
        self.order = 0.0


BOUNDS = [iwae, renyi(0.5), renyi(-1.0), renyi(1.7), elbo]


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.__name__)
def test_it_has_the_pathwise_mean(bound):
    """K = 2, over all noise: the integrals agree as far as the quadrature goes; a mutant's do not."""
    program = one_latent()
    truth, found = (mean_of(rule(bound, 2), program) for rule in (Pathwise, DoublyReparameterized))
    assert (found - truth).abs().max() < 1e-4  # at renyi(-1), whose weights are squared; below 1e-6 elsewhere
    if bound is not iwae:
        assert (mean_of(WrongFactor(bound, 2), program) - truth).abs().max() > 1e-2


@pytest.mark.parametrize("bound", [iwae, renyi(0.5)], ids=lambda bound: bound.__name__)
def test_tempered_it_has_the_tempered_pathwise_mean(bound):
    program = one_latent()
    truth, found = (mean_of(Beta(rule(bound, 2), 0.3), program) for rule in (Pathwise, DoublyReparameterized))
    assert (found - truth).abs().max() < 1e-5
    assert (truth - mean_of(Pathwise(bound, 2), program)).abs().max() > 1e-2


@pytest.mark.parametrize(
    "objective, words",
    [
        (ReweightedWakeSleep(2), "estimates wake-sleep"),
        (WakeSleep(2), "estimates helmholtz"),
        (Thermodynamic(2), r"estimates thermodynamic\(0, 0.5, 1\)"),
        (DoublyReparameterizedWakeSleep(2), "estimates wake-sleep"),
    ],
)
def test_what_is_no_bound_is_not_tempered(objective, words):
    with pytest.raises(ObjectiveError, match=words):
        Beta(objective, 0.5)


class AsIwae(DoublyReparameterizedWakeSleep):
    """The weights of iwae's path on the wake phase."""

    def estimate(self, pair, *args, **kwargs):
        return DoublyReparameterized(iwae, self.num_particles).estimate(pair, *args, **kwargs)


def test_the_wake_phase_has_one_mean_by_score_and_by_path():
    program = one_latent()
    truth, found, mutant = (
        mean_of(rule(2), program) for rule in (ReweightedWakeSleep, DoublyReparameterizedWakeSleep, AsIwae)
    )
    assert (found - truth).abs().max() < 1e-6
    assert (mutant - truth).abs().max() > 1e-2
    assert DoublyReparameterizedWakeSleep().target == WAKE_SLEEP


@pytest.mark.parametrize(
    "objective, factor",
    [
        (DoublyReparameterized(iwae, 3), lambda log_w: log_w.softmax(0).square()),
        (DoublyReparameterized(elbo, 3), lambda log_w: torch.full_like(log_w, 1 / 3)),
        (
            DoublyReparameterized(renyi(0.3), 3),
            lambda log_w: 0.3 * (0.7 * log_w).softmax(0) + 0.7 * (0.7 * log_w).softmax(0).square(),
        ),
        (DoublyReparameterizedWakeSleep(3), lambda log_w: log_w.softmax(0) - log_w.softmax(0).square()),
    ],
)
def test_draw_by_draw_as_written(objective, factor):
    """sum_k factor_k d log w_k / dz_k dz_k / dphi, its parts one after the other."""
    program, x = linear_gaussian(), torch.randn(4, 3)
    pair = pair_up(program.model, program.guide, (x,), {})
    noise = torch.randn(3, 4, 2)
    with Forced({"z": program.encoder(x) + program.log_scale.exp() * noise}):
        found = per_row_gradients(objective.estimate(pair, x).surrogate.sum().reshape(1), list(program.parameters()))[0]
    loc, scale = program.encoder(x), program.log_scale.exp()
    z = loc + scale * noise
    held = z.detach().requires_grad_()
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(held).sum(-1)
    data = torch.distributions.Normal(held @ program.weight.T + program.bias, program.s).log_prob(x).sum(-1)
    guide = torch.distributions.Normal(loc.detach(), scale.detach()).log_prob(held).sum(-1)
    log_w = prior + data - guide
    (slope,) = torch.autograd.grad(log_w.sum(), held, retain_graph=True)
    of_path = (factor(log_w.detach()).unsqueeze(-1) * slope * z).sum()
    weights = log_w.detach().softmax(0)
    if isinstance(objective, DoublyReparameterized):
        weights = ((1 - objective.order) * log_w.detach()).softmax(0)
    truth = per_row_gradients(((weights * data).sum() + of_path).reshape(1), list(program.parameters()))[0]
    assert torch.allclose(found, truth, atol=1e-12)


@pytest.mark.parametrize(
    "one, other",
    [
        (DoublyReparameterized(elbo, 3), StickTheLanding(3)),
        (DoublyReparameterized(iwae, 1), StickTheLanding(1)),
        (DoublyReparameterized(renyi(0.5), 1), StickTheLanding(1)),
    ],
)
def test_where_it_is_stick_the_landing(one, other):
    program, x, found = linear_gaussian(), torch.randn(4, 3), []
    for objective in (one, other):
        objective.differentiable_loss(program.model, program.guide, x)  # the check of the first batch
        torch.manual_seed(3)
        value = objective.differentiable_loss(program.model, program.guide, x)
        found.append(per_row_gradients(value.reshape(1), list(program.parameters()))[0])
    assert torch.allclose(*found, atol=1e-13)


def test_at_the_posterior_no_path_has_variance():
    """Where the weights are all equal log w is flat; the wake phase by score is all noise there."""
    program = linear_gaussian().at_posterior()
    guide = entries(program, "encoder") | entries(program, "log_scale")
    x = torch.randn(1, 3)
    for objective in (DoublyReparameterized(renyi(0.5), 4), DoublyReparameterizedWakeSleep(4)):
        assert sampled_gradients(objective, program, x, 100)[:, guide].abs().max() < 1e-10
    assert sampled_gradients(ReweightedWakeSleep(4), program, x, 100)[:, guide].var(0).sum() > 0.1


@pytest.mark.parametrize("bound", [tvo(3), jackknife(1), 4])
def test_other_bounds_are_refused(bound):
    with pytest.raises(ObjectiveError, match=r"knows elbo, iwae and renyi\(alpha\), not (tvo|jackknife|4).*Pathwise"):
        DoublyReparameterized(bound)


def test_masked_draws_are_refused():
    """A hidden density leaves no score to move, so that the path would be weighed wrongly."""

    class Masked(LinearGaussian):
        def model(self, x):
            with poutine.mask(mask=torch.tensor(False)):
                super().model(x)

        def guide(self, x):
            with poutine.mask(mask=torch.tensor(False)):
                super().guide(x)

    program, x = Masked(torch.ones(3, 2), torch.zeros(3), 0.6), torch.randn(4, 3)
    for objective in (DoublyReparameterized(iwae, 2), DoublyReparameterizedWakeSleep(2)):
        with pytest.raises(ObjectiveError, match="'z' is masked, which hides it: use StickTheLanding or Pathwise"):
            Loss(objective, program)(x)


def test_one_particle_teaches_the_wake_phase_nothing():
    with pytest.raises(ObjectiveError, match="at least 2, got 1"):
        DoublyReparameterizedWakeSleep(1)
