"""Point masses of one's own are found wherever Delta is: each place with a class that it does not know."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch import nn

from pplvm.bounds import iwae
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.information_bounds import info_nce
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.proper_weighting import why_no_bound_per_datum
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import closed_forms
from pplvm.particles.factors import unnormalised
from pplvm.particles.pair import draw_from_pair, inspect_pair
from pplvm.particles.parameter_roles import parameter_roles
from pplvm.particles.point_masses import is_point, point_in_words

X = torch.tensor([[0.3], [-0.8], [1.4]], dtype=torch.float64)


class Spot(dist.TorchDistribution):
    """All mass at one value, as a user writes it; the density of what it carries, if it carries anything."""

    is_point_mass = True
    has_rsample = True
    arg_constraints = {}
    support = constraints.real

    def __init__(self, value, log_density=0.0, event_dim=0):
        shape = value.shape[: value.dim() - event_dim]
        self.value, self.log_density = value, torch.as_tensor(log_density, dtype=value.dtype).expand(shape)
        super().__init__(shape, value.shape[value.dim() - event_dim :], validate_args=False)

    def expand(self, batch_shape, _instance=None):
        value = self.value.expand(torch.Size(batch_shape) + self.event_shape)
        return type(self)(value, self.log_density.expand(batch_shape), len(self.event_shape))

    def rsample(self, sample_shape=()):
        return self.value.expand(torch.Size(sample_shape) + self.batch_shape + self.event_shape)

    def log_prob(self, value):
        same = (value == self.value).reshape(*value.shape[: value.dim() - self.event_dim], -1).all(-1)
        return torch.where(same, self.log_density, -torch.inf)


class Undeclared(Spot):
    is_point_mass = False


class Still(dist.Normal):
    """One whose KL from a Normal torch would take from its parent."""

    is_point_mass = True

    def rsample(self, sample_shape=()):
        return self.loc.expand(torch.Size(sample_shape) + self.batch_shape)

    def log_prob(self, value):
        return torch.zeros_like(value)


class Estimated(nn.Module):
    """p(z) = N(0, 1) or HalfNormal(1), p(x | z) = N(z, 1); the guide puts z at a point."""

    def __init__(self, point=Spot, positive=False, hidden=None):
        super().__init__()
        self.slope, self.point, self.positive = nn.Parameter(torch.tensor(0.5)), point, positive
        self.hidden = hidden

    def model(self, x):
        zeros = torch.zeros(len(x))
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.HalfNormal(zeros + 1) if self.positive else dist.Normal(zeros, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            value = self.slope * x[:, 0]
            pyro.sample("z", self.point(value.exp() if self.positive else value))


class Carried(Estimated):
    """As Pyro's AutoGuides: an auxiliary Normal u, and z = 2 u at a point that carries it, with its Jacobian."""

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            u = pyro.sample("u", dist.Normal(self.slope * x[:, 0] / 2, 0.4), infer={"is_auxiliary": True})
            jacobian = torch.full_like(u, -torch.tensor(2.0).log())
            with pyro.poutine.mask(mask=True if self.hidden is None else self.hidden.expand(len(x))):
                pyro.sample("z", self.point(2 * u, log_density=jacobian))


def scaled(value):
    return dist.TransformedDistribution(Spot(value), [dist.transforms.ExpTransform()])


def test_a_point_is_one_under_whatever_stands_around_it():
    spot = Spot(torch.zeros(3))
    for fn in (spot, spot.to_event(1), spot.mask(torch.tensor(True)), spot.expand([2, 3]), scaled(torch.zeros(3))):
        assert is_point(fn)
    assert is_point(dist.Delta(torch.zeros(2)).to_event(1)) and not is_point(Undeclared(torch.zeros(3)))
    assert not is_point(dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    assert point_in_words(spot.to_event(1)) == "a Spot, a point mass"
    assert point_in_words(dist.Delta(torch.zeros(2))) == "a Delta"


def test_a_point_may_lie_in_the_models_support_whatever_it_says_of_its_own():
    for point, said in ((Spot, 0), (dist.Delta, 0), (Undeclared, 1)):
        program = Estimated(point, positive=True)
        assert len(inspect_pair(program.model, program.guide, (X,), {})[2]) == said


def test_a_parameter_that_moves_a_point_is_the_guides():
    for point, halves in ((Spot, {"guide"}), (dist.Delta, {"guide"}), (Undeclared, set())):
        program = Estimated(point)
        assert parameter_roles(program.model, program.guide, [program.slope], X) == [halves]


def test_what_carries_a_draw_is_masked_with_it():
    for point, count in ((Spot, 1), (dist.Delta, 1)):
        program = Carried(point, hidden=torch.tensor(False))
        told = [
            each for each in inspect_pair(program.model, program.guide, (X,), {})[2] if "one carries the other" in each
        ]
        assert len(told) == count


def test_a_point_of_the_model_with_a_density_is_not_normalised():
    for log_density, said in ((1.0, "model site 'z' is a Spot, a point mass with a log_density"), (0.0, "")):
        site = {"name": "z", "fn": Spot(torch.zeros(3), log_density), "value": torch.zeros(3)}
        assert unnormalised({"z": site}, {}).startswith(said) and bool(said) == bool(unnormalised({"z": site}, {}))


def test_a_density_at_one_point_is_no_bound():
    found = importance_sampled(Estimated(), X, ks=(1,))
    assert "guide site 'z' is a Spot, a point mass, so that this is log p(x, z) at one point" in found.fault
    assert found.figures[0].name == "log mean weight, k = 1"
    assert importance_sampled(Estimated(Undeclared), X, ks=(1,)).fault == ""


def test_what_carries_a_draw_by_a_bijection_is_right_and_one_latent():
    truth = dist.Normal(0.0, 2**0.5).log_prob(X[:, 0])
    for point in (Spot, dist.Delta):
        found = importance_sampled(Carried(point), X, ks=(1000,))
        assert found.fault == "" and ((found.log_p[:, 0] - truth).abs() < 5 * found.error[:, 0]).all()
        assert list(rate_distortion(Carried(point), X, num_particles=2).rate_sites) == ["z"]


class Chosen(nn.Module):
    """A code of three is drawn, and data near it; the guide chooses the nearest for certain."""

    def __init__(self, point, log_density=0.0):
        super().__init__()
        self.codes = nn.Parameter(torch.tensor([[-1.0], [0.5], [1.5]]))
        self.point, self.log_density = point, log_density

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(z @ self.codes, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            nearest = (x - self.codes[:, 0]).abs().argmin(-1)
            chosen = nn.functional.one_hot(nearest, 3).to(x.dtype)
            pyro.sample("z", self.point(chosen, self.log_density, event_dim=1))


@pytest.mark.parametrize("point, name", [(Spot, "a Spot, a point mass"), (dist.Delta, "a Delta")])
def test_a_code_that_is_chosen_for_certain_makes_a_bound_below_log_p(point, name):
    """The weight is p(x, z) at one z of three, p(x) the sum over all."""
    program = Chosen(point)
    found = importance_sampled(program, X, ks=(1, 3))
    joint = dist.Normal(program.codes[:, 0].detach(), 1.0).log_prob(X) - torch.tensor(3.0).log()  # (3 data, 3 codes)
    assert found.fault == "" and found.figures[0].name == "log p(x), k = 1"
    assert torch.allclose(found.log_p, joint.max(-1, keepdim=True).values) and found.error[:, 1].abs().max() < 1e-9
    assert (found.log_p[:, 0] < joint.logsumexp(-1)).all()
    assert f"it stays below log p(x) however large k is: guide site 'z' is {name}," in found.figures[1].note
    assert torch.allclose(rate_distortion(program, X, num_particles=2).elbo, found.elbo)
    with evaluation_mode(Chosen(point, log_density=-2.0), X) as pair:  # which would lift the weight above p(x)
        assert "with a log_density and carries no auxiliary draw" in why_no_bound_per_datum(pair, X)


def test_what_needs_a_density_names_the_point():
    with pytest.raises(ValueError, match="guide site 'z' is a Spot, a point mass, which has none"):
        info_nce(Estimated(), X, batch=3)
    with pytest.raises(ValueError, match="guide site 'z' is a Spot, a point mass, which has no density: use start="):
        annealed(Estimated(), X, chains=2, steps=2)
    assert annealed(Estimated(), X, chains=2, steps=2, start="prior").log_px.isfinite().all()
    with pytest.raises(ObjectiveError, match="guide site 'z' is a Spot, a point mass, which has none: use Stick"):
        Loss(DoublyReparameterized(iwae, 2), Estimated())(X)


def test_a_point_has_no_divergence_in_closed_form_and_no_score():
    with evaluation_mode(Estimated(lambda value: Still(value, 1.0)), X) as pair:
        assert closed_forms(draw_from_pair(pair, 1, (X,), {})) == {}
    slopes = []
    for point in (Spot, dist.Delta):
        torch.manual_seed(0)
        program = Carried(point)
        Loss(StickTheLanding(), program)(X).backward()
        slopes.append(float(program.slope.grad))
    assert slopes[0] == pytest.approx(slopes[1]) and slopes[0] != 0
