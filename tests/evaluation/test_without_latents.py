"""Programs without latents: log p(x) is exact, and whatever asks for latents says that there are none."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from torch import Tensor, nn

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.active_units import active_units
from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.evidence import log_evidence
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.information_bounds import barber_agakov, info_nce, info_nce_of_dreams
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.rate_distortion import rate_distortion
from pplvm.evaluation.samples import interpolations, prior_samples, reconstructions
from pplvm.evaluation.traversals import traversals
from pplvm.objectives.exact import PriorSampling
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep

X = torch.tensor([[0.3, -1.2], [2.0, 0.4], [-0.7, 0.1]], dtype=torch.float64)


class Density(nn.Module):
    """x ~ N(mu, sigma^2 I)."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.log_sigma = nn.Parameter(torch.tensor([0.5, -0.3])), nn.Parameter(torch.tensor([0.2, -0.6]))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("x", self.distribution(), obs=x)

    def distribution(self) -> dist.TorchDistribution:
        return dist.Normal(self.mu, self.log_sigma.exp()).to_event(1)

    def guide(self, x: Tensor) -> None:
        pass

    def truth(self, x: Tensor) -> Tensor:
        z = (x - self.mu) / self.log_sigma.exp()
        return (-z.square() / 2 - self.log_sigma - math.log(2 * math.pi) / 2).sum(-1)


class Flow(Density):
    """The same as a flow from N(0, I) whose last layer has weights of zero, and mu and log sigma as biases."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = transforms.affine_autoregressive(2, hidden_dims=[4])
        last = self.flow.arn.layers[-1]
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(torch.cat([self.mu, self.log_sigma]).detach())
        del self.mu, self.log_sigma

    def distribution(self) -> dist.TorchDistribution:
        return dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [self.flow])

    @property
    def mu(self) -> Tensor:
        return self.flow.arn.layers[-1].bias[:2]

    @property
    def log_sigma(self) -> Tensor:
        return self.flow.arn.layers[-1].bias[2:]


@pytest.mark.parametrize("kind", [Density, Flow])
def test_log_p_is_exact_however_it_is_asked_for(kind):
    program = kind()
    truth = program.truth(X).detach()
    exact = log_evidence(program, X)
    assert exact.how == "the program has no latents" and torch.allclose(exact.log_p, truth)
    found = importance_sampled(program, X, ks=(1, 10))
    assert torch.allclose(found.log_p, truth.unsqueeze(1).expand(3, 2)) and found.error.max() == 0
    assert [(f.name, f.note) for f in found.figures] == [("log p(x), exact", "the program has no latents")]
    rates = rate_distortion(program, X)
    assert torch.allclose(rates.distortion, -truth) and rates.rate.abs().max() == 0


@pytest.mark.parametrize("kind", [Density, Flow])
def test_a_page_tells_what_it_leaves_out(kind):
    program = kind()
    found = evaluate(program, X, ks=(1, 10), annealed_data=2)
    assert list(found.sections) == ["likelihood", "rate and distortion"]
    names = [figure.name for figure in found.sections["likelihood"]]
    assert names == ["log p(x), exact", "density"]
    assert found.sections["likelihood"][0].value == pytest.approx(float(program.truth(X).mean().detach()))
    (sentence,) = found.left_out
    assert "annealing, active units and information: the program has no latents" in sentence


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: active_units(p, X),
        lambda p: aggregate_posterior(p, X),
        lambda p: info_nce(p, X, batch=2),
        lambda p: info_nce_of_dreams(p, X, batch=2, batches=2),
        lambda p: barber_agakov(p, X, draws=4),
        lambda p: annealed(p, X, chains=2, steps=2),
        lambda p: annealed(p, X, chains=2, steps=2, start="prior"),
        lambda p: bidirectional(p, X, data=2, chains=2, steps=2),
        lambda p: reconstructions(p, X),
        lambda p: interpolations(p, X, X.flip(0), 3),
        lambda p: traversals(p, X[:1], "z", [0]),
        lambda p: Loss(WakeSleep(), p)(X),
        lambda p: Loss(ReweightedWakeSleep(2, 0.5), p)(X),
        lambda p: Loss(GeneralizedDoublyReparameterized(2), p)(X),
    ],
)
def test_what_asks_for_latents_says_that_there_are_none(ask):
    with pytest.raises(ValueError, match=r"the program has (no latents|none)"):
        ask(Density())


@pytest.mark.parametrize("kind", [Density, Flow])
def test_samples_are_of_the_density(kind):
    program = kind()
    samples = prior_samples(program, X[:1], 4000)
    assert not samples.mean.requires_grad  # where it is a parameter as it stands
    draw = samples.draw
    mu, sigma = program.mu.detach(), program.log_sigma.detach().exp()
    assert ((draw.mean(0) - mu) / sigma * 4000**0.5).abs().max() < 4.5
    assert (draw.std(0) / sigma - 1).abs().max() < 0.06


@pytest.mark.parametrize(
    "objective",
    [
        Pathwise(iwae, 3), AnalyticKL(2), StickTheLanding(2), DoublyReparameterized(iwae, 3), PriorSampling(3),
        ReweightedWakeSleep(3), LeaveOneOut(elbo, 2), Trace_ELBO(), PyroObjective(TraceGraph_ELBO()),
    ],
    ids=type,
)  # fmt: skip
@pytest.mark.parametrize("kind", [Density, Flow])
def test_objectives_climb_the_likelihood_of_one_batch_step_after_step(kind, objective):
    """The same tensor each time, under parameters that have changed: a flow must not answer from its cache."""
    program = kind()
    loss = Loss(objective, program)
    for _ in range(3):
        value = loss(X)
        truth = -program.truth(X).mean()
        assert float(value.detach()) == pytest.approx(float(truth.detach()), rel=1e-9)
        slopes = [
            torch.autograd.grad(each, program.parameters(), allow_unused=True, materialize_grads=True)
            for each in (value, truth)
        ]
        for name, found, expected in zip(dict(program.named_parameters()), *slopes, strict=True):
            if kind is Density or name.endswith("layers.1.bias"):  # the truth knows no other
                assert torch.allclose(found, expected, atol=1e-9)
        with torch.no_grad():
            for parameter, slope in zip(program.parameters(), slopes[1], strict=True):
                parameter -= 0.1 * slope
            assert float(loss(X)) == pytest.approx(float(-program.truth(X).mean()), rel=1e-9)


def test_pyros_reweighted_wake_sleep_says_that_it_has_no_loss():
    objective = PyroObjective(pyro.infer.ReweightedWakeSleep(2, vectorize_particles=True), allow_biased=True)
    with pytest.raises(ObjectiveError, match="no loss for a program without latents: use Pathwise"):
        Loss(objective, Density())(X)
