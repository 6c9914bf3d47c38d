"""The model's scores moved onto the paths of its own sampler: exact means by quadrature over two layers."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import iwae
from pplvm.objectives import generalized_dreg
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.tempered import Beta
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.problems import entries, linear_gaussian, quadrature_mean, sampled_gradients

X = torch.tensor([[0.7]], dtype=torch.float64)


class Hierarchy(nn.Module):
    """y ~ p, z | y ~ p, x | z, y ~ N; z | x ~ N, y | z, x ~ N: one number each, all of it learned."""

    def __init__(self, prior=dist.Normal) -> None:
        super().__init__()
        self.prior = prior
        numbers = {"top": (0.3, 0.2), "middle": (0.8, -0.3, -0.1), "bottom": (1.1, 0.4, -0.2)}
        numbers |= {"inwards": (0.5, -0.2, -0.4), "upwards": (0.6, 0.1, 0.2, -0.3)}
        for name, values in numbers.items():
            setattr(self, name, nn.Parameter(torch.tensor(values)))

    def model(self, x):
        a, b, c = self.top, self.middle, self.bottom
        with pyro.plate("batch", len(x)):
            y = pyro.sample("y", self.prior(a[0], a[1].exp()).expand([1]).to_event(1))
            z = pyro.sample("z", self.prior((b[0] * y).tanh() + b[1], (b[2] * (1 + y.sin())).exp()).to_event(1))
            pyro.sample("x", dist.Normal(c[0] * z + c[1] * y, c[2].exp()).to_event(1), obs=x)

    def guide(self, x):
        (a, b, c), (d, e, f, g) = self.inwards, self.upwards
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(a * x + b, c.exp()).to_event(1))
            pyro.sample("y", dist.Normal(d * z + e * x + f, g.exp()).to_event(1))

    def paths(self, noise):
        """From noise (K, T, 2)."""
        (a, b, c), (d, e, f, g) = self.inwards, self.upwards
        z = a * X + b + c.exp() * noise[..., :1]
        return {"z": z, "y": d * z + e * X + f + g.exp() * noise[..., 1:]}


def mean_of(objective, program, nodes):
    return quadrature_mean(objective, program, X, program.paths, nodes, dims=2)


@pytest.mark.parametrize("K, nodes", [(1, 50), (2, 14)])
def test_it_has_the_mean_of_iwae(K, nodes):
    """Over all noise of two layers; the guide's part is that of DReG at every draw."""
    program = Hierarchy()
    truth, dreg, found = (
        mean_of(objective, program, nodes)
        for objective in (Pathwise(iwae, K), DoublyReparameterized(iwae, K), GeneralizedDoublyReparameterized(K))
    )
    error = (dreg - truth).norm()  # of the quadrature, as DReG shows it
    assert (found - truth).norm() < 3 * error + 1e-9 and error < 2e-3 * truth.norm()
    guide = entries(program, "inwards") | entries(program, "upwards")
    assert torch.allclose(found[guide], dreg[guide], atol=1e-12)
    assert truth.abs().min() > 3e-3


class TopHeldStill(generalized_dreg._OnItsPath):
    """The lower layer moves by itself: how it follows the top is forgotten."""

    def _pyro_sample(self, msg):
        if msg["name"] == "y":
            msg["value"] = msg["value"].detach()
        else:
            super()._pyro_sample(msg)


def test_a_mutant_that_forgets_the_children_fails(monkeypatch):
    program = Hierarchy()
    truth = mean_of(Pathwise(iwae, 1), program, 50)
    monkeypatch.setattr(generalized_dreg, "_OnItsPath", TopHeldStill)
    mutant = mean_of(GeneralizedDoublyReparameterized(1), program, 50)
    assert (mutant - truth).abs().max() > 1e-2


@pytest.mark.parametrize("prior", [dist.Normal, dist.Laplace])
def test_draws_agree_in_the_mean(prior):
    """Four particles, and a prior with a kink: by z-tests against the plain path."""
    torch.manual_seed(1)
    program, n = Hierarchy(prior), 2000
    a, b = (sampled_gradients(o, program, X, n) for o in (Pathwise(iwae, 4), GeneralizedDoublyReparameterized(4)))
    z = (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / n).sqrt()
    assert z.abs().max() < 4.5, z


class WideOrNarrow(nn.Module):
    """z ~ N(m, s^2), x | z ~ N(z, width^2); the guide is the posterior."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.m, self.s, self.width = nn.Parameter(torch.tensor(0.3)), 1.0, width

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.m, self.s).expand([1]).to_event(1))
            pyro.sample("x", dist.Normal(z, self.width).to_event(1), obs=x)

    def guide(self, x):
        precision = 1 / self.s**2 + 1 / self.width**2
        mean = (self.m.detach() / self.s**2 + x / self.width**2) / precision
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(mean, precision**-0.5).to_event(1))


@pytest.mark.parametrize("width", [2.0, 0.5])
def test_variance_of_the_priors_parameters(width):
    """At the posterior the score of m varies as z / s^2, what moves along the path as z / width^2.

    Hence var DReG / var GDReG = (width / s)^4: better where the data say less of z than the prior, else worse.
    """
    program, K, n = WideOrNarrow(width), 3, 4000
    dreg, gdreg = (
        float(sampled_gradients(o, program, X, n).var())
        for o in (DoublyReparameterized(iwae, K), GeneralizedDoublyReparameterized(K))
    )
    posterior = 1 / (1 + 1 / width**2)
    assert dreg == pytest.approx(posterior / K, rel=0.11)  # 5 standard errors of a Gaussian variance
    assert gdreg == pytest.approx(posterior / width**4 / K, rel=0.11)


def test_refusals():
    class HeavyTailed(Hierarchy):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                y = pyro.sample("y", dist.StudentT(3.0, self.top[0]).expand([1]).to_event(1))
                z = pyro.sample("z", dist.Normal(y, 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    class Dropping(VAE):
        def model(self, x):
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
                logits = nn.functional.dropout(self.decoder(z), 0.5, self.training)
                pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    loss = lambda program: Loss(GeneralizedDoublyReparameterized(2), program)
    with pytest.raises(ObjectiveError, match=r"'y' \(StudentT\) is neither Normal nor Laplace: use DoublyRep"):
        loss(HeavyTailed())(X)
    with pytest.raises(ObjectiveError, match="Beta cannot weigh the terms of GeneralizedDoublyReparameterized"):
        Loss(Beta(GeneralizedDoublyReparameterized(2), 0.5), Hierarchy())(X)
    with pytest.raises(ObjectiveError, match="runs the model twice, but it is random beyond its sites"):
        loss(Dropping(8, 2, (5,)))(torch.ones(3, 8))
    with pytest.raises(ObjectiveError, match="'z_1' has none.*silently biased"):
        loss(SigmoidBeliefNet(8, (2,)))(torch.ones(3, 8))


def test_without_parameters_above_it_is_dreg():
    """Draw by draw, for latents of several numbers, and for a model and guide that no module owns."""
    program, x, found = linear_gaussian(), torch.randn(4, 3), []
    functions = (lambda x: program.model(x)), (lambda x: program.guide(x))
    for objective, pair in (
        (DoublyReparameterized(iwae, 3), (program.model, program.guide)),
        (GeneralizedDoublyReparameterized(3), functions),
    ):
        objective.differentiable_loss(*pair, x)  # the check of the first batch
        torch.manual_seed(3)
        found.append(torch.autograd.grad(objective.differentiable_loss(*pair, x), list(program.parameters())))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*found, strict=True))
