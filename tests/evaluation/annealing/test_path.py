"""Densities of latents at given values, in free coordinates; which latents no chain can walk on."""

import math

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as flows
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.path import AnnealingPath
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.particles.contract import ProgramError
from pplvm.particles.pair import draw_from_pair
from tests.evaluation.annealing.test_annealed import KNOWN, known
from tests.evaluation.annealing_problems import GammaPoisson, z_of


@pytest.mark.parametrize("chains", [1, 3])
@pytest.mark.parametrize("name", KNOWN)
def test_densities_are_those_of_the_particles(name, chains):
    """The log-weights of a run, and the values that it drew, come back."""
    program, x = known(name)
    with evaluation_mode(program, x) as pair:
        path, drawn = AnnealingPath.of(pair, x[:1], "guide"), draw_from_pair(pair, chains, (x[:1],), {})
        values = {n: drawn.guide_trace.nodes[n]["value"] for n in path.sites}
        point = path.hold(values, chains)
        again, _ = path._values(point.free, point.states)
    assert torch.allclose(point.log_ratio, drawn.log_weights.squeeze(1))
    for n, value in values.items():
        assert again[n].shape == value.shape and again[n].dtype == value.dtype and torch.allclose(again[n], value)


def test_only_a_guide_whose_draws_hang_together_runs_anew():
    """Two latents apart, and one given the other; the densities above are those of both kinds."""
    for name, is_still in (("mixed", True), ("nested", True), ("gaussian", True), ("layers", False)):
        program, x = known(name)
        with evaluation_mode(program, x) as pair:
            assert (AnnealingPath.of(pair, x[:1], "guide").still is not None) == is_still


def test_a_positive_latent_has_its_jacobian():
    program, x = GammaPoisson(), torch.tensor([3.0])
    z = torch.tensor([0.3, 2.0])
    with evaluation_mode(program, x) as pair:
        point = AnnealingPath.of(pair, x, "guide").hold({"z": z[:, None]}, 2)
        prior = AnnealingPath.of(pair, x, "prior").hold({"z": z[:, None]}, 2)
    likelihood = dist.Poisson(z).log_prob(x)
    assert torch.allclose(point.log_start, dist.Gamma(*program.guess).log_prob(z) + z.log())
    assert torch.allclose(prior.log_start, dist.Gamma(*program.prior).log_prob(z) + z.log())
    for each in (point, prior):
        assert torch.allclose(each.log_joint, dist.Gamma(*program.prior).log_prob(z) + z.log() + likelihood)


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("name", ["gaussian", "positive", "simplex", "mixed", "nested"])
def test_slopes_are_those_of_small_differences(name, start):
    program, x = known(name)
    with evaluation_mode(program, x) as pair:
        path = AnnealingPath.of(pair, x[:1], start)
        drawn = path.draw(5)
        point = path.at(drawn.free, drawn.states, sloped=True)
        for i in range(point.free.shape[1]):
            step = 1e-5 * torch.eye(point.free.shape[1])[i]
            up, down = (path.at(point.free + sign * step, point.states).log_density(0.3) for sign in (1, -1))
            assert torch.allclose(point.slope(0.3)[:, i], (up - down) / 2e-5, atol=1e-6)


class Masked(nn.Module):
    """Two steps of which the second is padding: its latent is masked in both, its datum unseen."""

    def model(self, x: Tensor) -> None:
        seen = torch.tensor([True, False])
        with pyro.plate("batch", len(x)), poutine.mask(mask=seen[:, None]):
            with pyro.plate("steps", 2, dim=-2):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x.T)

    def guide(self, x: Tensor) -> None:
        seen = torch.tensor([True, False])
        with pyro.plate("batch", len(x)), poutine.mask(mask=seen[:, None]), pyro.plate("steps", 2, dim=-2):
            pyro.sample("z", dist.Normal(0.5, 1.0))


def test_masks_hide_data_but_no_latent():
    found = annealed(Masked(), torch.tensor([[1.2, 100.0]]), chains=2000, steps=4)
    truth = dist.Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(1.2))
    assert abs(z_of((found.log_weights - truth).exp() - 1)) < 5


class Fixed(nn.Module):
    """x | z ~ N(z, 1) with a prior and a guide to be given."""

    def __init__(self, prior, guess) -> None:
        super().__init__()
        self.prior, self.guess = prior, guess

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample(
                "x", dist.Normal(z.reshape(*z.shape[: z.dim() - self.prior().event_dim], -1).sum(-1), 1.0), obs=x
            )

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.guess())


class Auxiliary(Fixed):
    """The guide has a draw of its own."""

    def __init__(self) -> None:
        super().__init__(lambda: dist.Normal(0.0, 1.0), None)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(a, 1.0))


class Chained(nn.Module):
    """The upper end of one latent is another."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            top = pyro.sample("top", dist.Gamma(2.0, 1.0))
            z = pyro.sample("z", dist.Uniform(torch.zeros_like(top), top))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    guide = lambda self, x: poutine.block(self.model, hide=["x"])(x)


def normal(event=0):
    return lambda: dist.Normal(torch.zeros([2] * event), 1.0).to_event(event)


def planar():
    return dist.TransformedDistribution(normal(1)(), [FLOW])


FLOW = flows.Planar(2)
GOOD_FROM_PRIOR = {
    "auxiliary, so log q": Auxiliary,
    "'z' is a Delta, which has no density": lambda: Fixed(normal(), lambda: dist.Delta(torch.tensor(0.3))),
    "not just drawn": lambda: Fixed(normal(1), planar),
}


@pytest.mark.parametrize("words", GOOD_FROM_PRIOR)
def test_guides_without_density_are_refused_but_not_from_the_prior(words):
    FLOW.double()
    program, x = GOOD_FROM_PRIOR[words](), torch.tensor([0.4])
    with pytest.raises(ProgramError, match=words):
        annealed(program, x, chains=2, steps=2)
    found = annealed(program, x, chains=2000, steps=4, start="prior")
    variance = 3.0 if "drawn" in words else 2.0
    truth = dist.Normal(0.0, math.sqrt(variance)).log_prob(x)
    assert abs(z_of((found.log_weights[0] - truth).exp() - 1)) < 5


@pytest.mark.parametrize("start", ["guide", "prior"])
def test_latents_that_no_chain_can_walk_on_are_refused(start):
    x, poisson = torch.tensor([0.4]), lambda: dist.Poisson(torch.tensor(2.0))
    sphere = lambda: dist.ProjectedNormal(torch.ones(3))
    for build, name in ((poisson, "Poisson"), (sphere, "ProjectedNormal")):
        with pytest.raises(ProgramError, match=rf"'z' \({name}\) is neither finite nor"):
            annealed(Fixed(build, build), x, chains=2, steps=2, start=start)


def test_a_support_that_moves_is_refused():
    with pytest.raises(ProgramError, match="'z' has a support that depends on other latents"):
        annealed(Chained(), torch.tensor([0.4]), chains=2, steps=2, start="prior")


def test_a_latent_of_one_state_stays():
    one = lambda: dist.Categorical(torch.ones(1))
    found = annealed(Fixed(one, one), torch.tensor([0.4]), chains=3, steps=4)
    assert torch.allclose(found.log_weights, dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.4)).double())
    assert found.acceptance.isnan().all()
