"""Flows of Pyro's as guides: all estimators that take them have one mean gradient, the others say why they do not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from torch import Tensor, nn

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, DoublyReparameterizedWakeSleep, StickTheLanding
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from pplvm.particles.contract import ProgramError
from tests.problems import PathlessNormal

X = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
S = 0.7


class Flow(nn.Module):
    """z ~ N(0, I), x | z ~ N(z, s^2 I) with the posterior N(x / (1 + s^2), s^2 / (1 + s^2) I), and a flow as guide."""

    def __init__(self, transform: nn.Module, base: type = dist.Normal) -> None:
        super().__init__()
        self.transform, self.base = transform, base
        self.encoder, self.scale = nn.Linear(2, 2), nn.Parameter(torch.tensor(0.6))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, S).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        start = self.base(self.encoder(x), self.scale.expand(2)).to_event(1)
        with pyro.plate("batch", len(x)):
            if isinstance(self.transform, dist.ConditionalTransform):
                flow = dist.ConditionalTransformedDistribution(start, [self.transform]).condition(x)
            else:
                flow = dist.TransformedDistribution(start, [self.transform])
            pyro.sample("z", flow)


KINDS = {
    "autoregressive": lambda: transforms.affine_autoregressive(2, hidden_dims=[4]),
    "conditional": lambda: transforms.conditional_affine_autoregressive(2, 2, hidden_dims=[4]),
    "spline": lambda: transforms.spline_coupling(2, hidden_dims=[4]),
    "composed": lambda: transforms.ComposeTransformModule(
        [transforms.affine_autoregressive(2, hidden_dims=[4]), transforms.affine_coupling(2, hidden_dims=[4])]
    ),
}
FORWARD_ONLY = {
    "planar": lambda: transforms.planar(2),
    "conditional planar": lambda: transforms.conditional_planar(2, 2, hidden_dims=[4]),
    "radial": lambda: transforms.radial(2),
}


def gradients(objective, program: nn.Module, rounds: int, rows: int = 500) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the gradient of one datum."""
    loss, x = Loss(objective, program), X.expand(rows, 2)
    loss(X)
    parameters = list(program.parameters())
    found = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss(x), parameters, materialize_grads=True)])
        for _ in range(rounds)
    ]
    return torch.stack(found).mean(0), torch.stack(found).std(0) / rounds**0.5


def z_between(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    return float(((one[0] - other[0]) / (one[1].square() + other[1].square()).sqrt().clamp(min=1e-9)).abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_path_gradients_of_a_flow_have_the_mean_of_the_pathwise(kind):
    program = Flow(KINDS[kind]())
    pathwise = gradients(Pathwise(elbo, 2), program, 12)
    assert z_between(gradients(StickTheLanding(2), program, 12), pathwise) < 5
    pathwise = gradients(Pathwise(iwae, 3), program, 12)
    for objective in (DoublyReparameterized(iwae, 3), GeneralizedDoublyReparameterized(3)):
        assert z_between(gradients(objective, program, 12), pathwise) < 5
    awake = gradients(ReweightedWakeSleep(3), program, 12)
    assert z_between(gradients(DoublyReparameterizedWakeSleep(3), program, 12), awake) < 5
    assert z_between(awake, pathwise) > 10  # and these two differ


@pytest.mark.parametrize("kind", ["autoregressive", "conditional", "composed"])
def test_sticking_the_landing_has_no_variance_at_the_posterior(kind):
    """A flow that is the identity, on a base that is the posterior: live parameters in log q would bring noise."""
    program = Flow(KINDS[kind]())
    with torch.no_grad():
        for parameter in program.transform.parameters():
            parameter.zero_()
        program.encoder.weight.copy_(torch.eye(2) / (1 + S**2))
        program.encoder.bias.zero_()
        program.scale.fill_((S**2 / (1 + S**2)) ** 0.5)
    mean, error = gradients(StickTheLanding(1), program, 5, rows=10)
    assert mean.abs().max() < 1e-9 and error.max() < 1e-9
    assert gradients(Pathwise(elbo, 1), program, 5, rows=10)[1].max() > 1e-3


@pytest.mark.parametrize("build", [KINDS["autoregressive"], KINDS["conditional"]])
@pytest.mark.parametrize("objective", [ScoreFunction(elbo, 2), LeaveOneOut(elbo, 2)])
def test_the_score_of_a_flow_whose_base_has_no_path(objective, build):
    """What it drew without gradient stands in the transform's cache, where log q has none in the flow's parameters."""
    torch.manual_seed(1)
    pathwise = gradients(Pathwise(elbo, 2), program := Flow(build()), 40)
    program.base = PathlessNormal
    assert z_between(gradients(objective, program, 40), pathwise) < 5


def test_a_transform_that_model_and_guide_share():
    """Held still for the guide's density, live for the model's, at the same draws."""

    class Shared(Flow):
        def model(self, x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                prior = dist.Normal(torch.zeros(2), 1.0).to_event(1)
                z = pyro.sample("z", dist.TransformedDistribution(prior, [self.transform]))
                pyro.sample("x", dist.Normal(z, S).to_event(1), obs=x)

    program = Shared(KINDS["autoregressive"]())
    pathwise = gradients(Pathwise(elbo, 2), program, 12)
    assert z_between(gradients(StickTheLanding(2), program, 12), pathwise) < 5


@pytest.mark.parametrize("kind", FORWARD_ONLY)
def test_a_flow_without_inverse_is_refused_in_words_where_densities_of_given_values_are_needed(kind):
    program = Flow(FORWARD_ONLY[kind]())
    for objective in (
        StickTheLanding(2),
        DoublyReparameterized(iwae, 2),
        GeneralizedDoublyReparameterized(2),
        DoublyReparameterizedWakeSleep(2),
        ReweightedWakeSleep(2),
        WakeSleep(2),
    ):
        with pytest.raises(ProgramError, match="site 'z' gives no density to draws .* transforms with an inverse"):
            Loss(objective, program)(X)


@pytest.mark.parametrize("kind", [*FORWARD_ONLY, *KINDS])
def test_any_flow_is_sampled_pathwise_and_weighed_rightly(kind):
    program = Flow((FORWARD_ONLY | KINDS)[kind]())
    for objective in (LeaveOneOut(elbo, 2), Pathwise(elbo, 2)):
        loss = Loss(objective, program)
        loss(X).backward()
    assert {part: len(found) for part, found in loss.parts(X).items()}["model"] == 0
    truth = dist.Normal(0.0, (1 + S**2) ** 0.5).log_prob(X).sum()
    found = importance_sampled(program, X, ks=(4000,))
    assert abs(found.log_p[0, 0] - truth) < 6 * found.error[0, 0].clamp(max=0.1)


def test_a_prior_without_inverse_is_refused_by_the_contract():
    class Above(Flow):
        def model(self, x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0), [self.transform]))
                pyro.sample("x", dist.Normal(z, S).to_event(1), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), self.scale).to_event(1))

    with pytest.raises(ProgramError, match="model site 'z' gives its value no density: use transforms with an inverse"):
        Loss(Pathwise(), Above(transforms.planar(2)))(X)


def test_a_distribution_made_beforehand_is_told_as_the_reason():
    class Made(Flow):
        def __init__(self) -> None:
            super().__init__(KINDS["autoregressive"]())
            self.start = dist.Normal(self.scale.expand(2), 1.0)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                pyro.sample("z", self.start.expand([len(x), 2]).to_event(1))

    with pytest.raises(ObjectiveError, match="'z' still: .* or of a distribution that was made before the guide ran"):
        Loss(StickTheLanding(), Made())(X)


def test_dropout_within_a_flow_is_found():
    class Dropped(transforms.AffineAutoregressive):
        def __init__(self) -> None:
            super().__init__(pyro.nn.AutoRegressiveNN(2, [8]))
            self.arn.f = nn.Dropout(0.5)

    with pytest.raises(ObjectiveError, match=r"random beyond its sites \(dropout\?\)"):
        Loss(StickTheLanding(), Flow(Dropped()))(X)
