"""Autoregressive flows as posterior and prior: where they start, one from the other's side, and every gradient."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from pplvm.bounds import elbo, iwae
from pplvm.distributions.transforms.affine_autoregressive import AffineAutoregressive, sigmoid_gate
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.objectives.generalized_dreg import GeneralizedDoublyReparameterized
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized, StickTheLanding
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.programs.autoregressive_flows import AutoregressiveFlowPrior, IAFPosterior
from pplvm.programs.parts import bernoulli, diagonal_normal
from pplvm.programs.vae import VAE

B, D, Z, C = 4, 6, 3, 2


def randomized(module: nn.Module, scale: float = 0.7) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return module


def posterior(**options) -> IAFPosterior:
    return IAFPosterior(MLP(D, 2 * Z + C), Z, C, flow_hidden_sizes=(7,), **options)


def data() -> Tensor:
    return torch.bernoulli(torch.full((B, D), 0.5))


def log_weights(program: nn.Module, x: Tensor, K: int = 5) -> Tensor:
    torch.manual_seed(1)
    return draw_particles(program.model, program.guide, x, num_particles=K).log_weights


# the lecture's sentence


class DeeperDecoder(nn.Module):
    """The program of an autoregressive prior from the other side: u ~ N(0, I), decoder and posterior pass the flow.

    The flow takes the posterior's draw to u, an inverse autoregressive flow, and its inverse stands under the decoder.
    """

    def __init__(self, program: VAE, inverts: bool = True) -> None:
        super().__init__()
        self.program = program
        self.steps = [AffineAutoregressive(flow, flow.order) for flow in program.prior.flows]
        self.under = [t.inv for t in reversed(self.steps)] if inverts else self.steps

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = u = pyro.sample("u", dist.Normal(torch.zeros(Z), 1.0).to_event(1))
            for t in self.under:
                z = t(z)
            assert z is not u
            pyro.sample("x", bernoulli(self.program.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            q = diagonal_normal(self.program.encoder(x))
            pyro.sample("u", dist.TransformedDistribution(q, self.steps))


def with_flow_prior(num_flows: int = 3) -> VAE:
    prior = AutoregressiveFlowPrior(Z, num_flows, flow_hidden_sizes=(7,))
    return randomized(VAE(encoder=MLP(D, 2 * Z), decoder=MLP(Z, D), likelihood=bernoulli, prior=prior))


def test_an_autoregressive_prior_is_an_inverse_autoregressive_posterior_from_the_other_side():
    program, x = with_flow_prior(), data()
    expected = log_weights(program, x)
    torch.testing.assert_close(log_weights(DeeperDecoder(program), x), expected, rtol=0, atol=1e-10)
    assert (log_weights(DeeperDecoder(program, inverts=False), x) - expected).abs().max() > 0.1


def test_both_sides_have_one_gradient():
    program, x = with_flow_prior(), data()
    found = []
    for each in (program, DeeperDecoder(program)):
        found.append(torch.autograd.grad(iwae(log_weights(each, x)).sum(), list(program.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


# where they start


def test_a_prior_starts_as_the_standard_normal():
    z = torch.randn(50, Z) * 3
    prior = AutoregressiveFlowPrior(Z, 4, (7,))
    assert torch.equal(prior().log_prob(z), dist.Normal(torch.zeros(Z), 1.0).to_event(1).log_prob(z))
    assert not torch.allclose(randomized(prior)().log_prob(z), dist.Normal(torch.zeros(Z), 1.0).to_event(1).log_prob(z))


@pytest.mark.parametrize("K", [1, 5])
def test_a_posterior_starts_as_the_diagonal_normal(K):
    """And so has the rate of a VAE with that guide, on every datum and draw."""
    encoder, x = posterior(num_flows=3), data()
    iaf = VAE(latent_size=Z, encoder=encoder, decoder=MLP(Z, D), likelihood=bernoulli)
    flat = VAE(
        latent_size=Z, encoder=lambda x: encoder.network(x)[:, : 2 * Z], decoder=iaf.decoder, likelihood=bernoulli
    )
    assert torch.equal(log_weights(iaf, x, K), log_weights(flat, x, K))
    randomized(encoder.flows)
    assert (log_weights(iaf, x, K) - log_weights(flat, x, K)).abs().max() > 0.1


def test_each_flow_reverses_the_order():
    assert [flow.order for flow in posterior(num_flows=3).flows] == [(0, 1, 2), (2, 1, 0), (0, 1, 2)]


# draws, densities, gradients


@pytest.mark.parametrize("affine", [None, sigmoid_gate()])
def test_draws_and_densities(affine):
    for fn in (
        randomized(posterior(affine=affine), 0.4)(data()),
        randomized(AutoregressiveFlowPrior(Z, 3, (7,), affine), 0.4)().expand([B]),
    ):
        z = fn.rsample((5,))
        assert z.shape == (5, B, Z)
        torch.testing.assert_close(fn.log_prob(z), fn.log_prob(z.clone()), rtol=0, atol=1e-9)


def test_the_encoder_runs_once_a_datum_and_each_flow_once_for_all_particles():
    encoder, seen = posterior(), []
    encoder.network.register_forward_hook(lambda module, given, found: seen.append(("network", found.shape)))
    for flow in encoder.flows:
        flow.projection.register_forward_hook(lambda module, given, found: seen.append(("context", found.shape)))
        flow.register_forward_hook(lambda module, given, found: seen.append(("flow", found.shape)))
    program = VAE(latent_size=Z, encoder=encoder, decoder=MLP(Z, D), likelihood=bernoulli)
    x = data()
    loss = Loss(Pathwise(iwae, 5), program)
    loss(x)  # whose first call checks the program
    seen.clear()
    loss(x)
    assert seen == [
        ("network", (B, 2 * Z + C)),
        ("context", (B, 7)),
        ("context", (B, 7)),
        ("flow", (5, B, 2, Z)),
        ("flow", (5, B, 2, Z)),
    ]


class Posterior(nn.Module):
    """z ~ N(0, I), x | z ~ N(z, s^2 I), whose posterior is N(x, s^2) / (1 + s^2), under a flow as guide."""

    S = 0.7

    def __init__(self, prior: AutoregressiveFlowPrior | None = None) -> None:
        super().__init__()
        self.encoder = IAFPosterior(MLP(2, 2 * 2 + C), 2, C, flow_hidden_sizes=(5,))
        self.prior = prior

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            p_z = dist.Normal(torch.zeros(2), 1.0).to_event(1) if self.prior is None else self.prior()
            z = pyro.sample("z", p_z)
            pyro.sample("x", dist.Normal(z, self.S).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        q_z = self.encoder(x)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", q_z)


X = torch.tensor([[1.0, -0.5]], dtype=torch.float64)


def gradients(objective, program: nn.Module, rounds: int, rows: int = 300) -> tuple[Tensor, Tensor]:
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


def test_path_gradients_have_the_mean_of_the_pathwise():
    program = randomized(Posterior(AutoregressiveFlowPrior(2, 2, (5,))), 0.4)
    pathwise = gradients(Pathwise(elbo, 2), program, 20)
    for objective in (StickTheLanding(2), AnalyticKL(2)):
        assert z_between(gradients(objective, program, 20), pathwise) < 5
    importance = gradients(Pathwise(iwae, 3), program, 20)
    assert z_between(gradients(DoublyReparameterized(iwae, 3), program, 20), importance) < 5
    assert z_between(importance, pathwise) > 10  # and these two differ


def test_the_generalized_rule_takes_the_guide_under_a_normal_prior_only():
    program = randomized(Posterior(), 0.4)
    importance = gradients(Pathwise(iwae, 3), program, 20)
    assert z_between(gradients(GeneralizedDoublyReparameterized(3), program, 20), importance) < 5
    with pytest.raises(ObjectiveError, match="model site 'z' .* is neither Normal nor Laplace"):
        Loss(GeneralizedDoublyReparameterized(3), Posterior(AutoregressiveFlowPrior(2)))(X)


def test_sticking_the_landing_has_no_variance_at_the_posterior():
    program = Posterior()
    with torch.no_grad():
        layer = program.encoder.network.last
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:2] = torch.eye(2) / (1 + program.S**2)
        layer.bias[2:4] = 0.5 * torch.tensor(program.S**2 / (1 + program.S**2)).log()
    mean, error = gradients(StickTheLanding(1), program, 5, rows=10)
    assert mean.abs().max() < 1e-9 and error.max() < 1e-9
    assert gradients(Pathwise(elbo, 1), program, 5, rows=10)[1].max() > 1e-3


def test_the_evidence_is_found_under_any_flow():
    program = randomized(Posterior(), 0.15)
    truth = dist.Normal(0.0, (1 + program.S**2) ** 0.5).log_prob(X).sum()
    found = importance_sampled(program, X, ks=(8000,))
    assert abs(found.log_p[0, 0] - truth) < 5 * found.error[0, 0] < 0.2


@pytest.mark.parametrize("objective", [Pathwise(iwae, 3), StickTheLanding(2), DoublyReparameterized(iwae, 3)])
def test_one_graph_gives_the_eager_value_and_gradient(objective):
    program = randomized(Posterior(AutoregressiveFlowPrior(2, 2, (5,))), 0.4)
    loss, graph = Loss(objective, program), compiled(Loss(objective, program), "graph")
    x = torch.randn(4, 2)
    graph(x)
    found = []
    for each in (loss, graph):
        program.zero_grad()
        torch.manual_seed(2)
        value = each(x)
        value.backward()
        found.append([value.detach(), *(p.grad.clone() for p in program.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > 5
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_pyros_own_elbo_has_the_same_value():
    program, x = randomized(Posterior(AutoregressiveFlowPrior(2, 2, (5,))), 0.4), torch.randn(4, 2)
    ours = log_weights(program, x, 1).sum().detach()
    torch.manual_seed(1)
    assert Trace_ELBO().loss(program.model, program.guide, x) == pytest.approx(-float(ours), rel=1e-12)


def test_a_score_function_takes_a_flow_too():
    program = randomized(Posterior(), 0.4)
    Loss(LeaveOneOut(elbo, 3), program)(X).backward()
    assert all(p.grad is not None for p in program.encoder.flows.parameters())


class Bent(nn.Module):
    """z ~ N(0, I_2), x | z ~ N(z_1 - z_0^2, 0.3^2): the posterior is a crescent, which no diagonal normal is."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = IAFPosterior(nn.Linear(1, 2 * 2 + 1), 2, 1, flow_hidden_sizes=(20,))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = z[..., 1:] - z[..., :1].square()
            pyro.sample("x", dist.Normal(mean, 0.3).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.encoder(x))


def test_a_flow_learns_a_posterior_that_no_diagonal_normal_is():
    x, ends = torch.zeros(100, 1), torch.linspace(-6, 6, 801)
    grid, normal = torch.cartesian_prod(ends, ends), dist.Normal(0.0, 1.0)
    joint = normal.log_prob(grid).sum(-1) + dist.Normal(grid[:, 1] - grid[:, 0].square(), 0.3).log_prob(x[0])
    truth = float(joint.logsumexp(0) + 2 * (ends[1] - ends[0]).log())
    short = {}
    for bent in (False, True):
        torch.manual_seed(1)
        program = Bent()
        program.encoder.flows.requires_grad_(bent)
        optimizer = torch.optim.Adam([p for p in program.parameters() if p.requires_grad], 2e-2)
        loss = Loss(Pathwise(elbo, 1), program)
        for _ in range(200):
            optimizer.zero_grad()
            loss(x).backward()
            optimizer.step()
        with torch.no_grad():
            short[bent] = truth - float(log_weights(program, x, 50).mean())
    assert 0 < short[True] < short[False] / 3, short


# bad input


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: AutoregressiveFlowPrior(3, 0), "num_flows must be at least 1, got 0"),
        (lambda: AutoregressiveFlowPrior(0), "sizes must be at least 1"),
        (lambda: AutoregressiveFlowPrior(3, 2, ()), "flow_hidden_sizes must name the widths of hidden layers"),
        (lambda: posterior(num_flows=0), "num_flows must be at least 1"),
        (lambda: IAFPosterior(MLP(D, 5), Z, C)(data()), r"3 \+ 3 \+ 2 = 8"),
    ],
)
def test_bad_input(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_prior_of_another_size_than_the_posterior_is_told():
    program = VAE(encoder=MLP(D, 2 * Z), decoder=MLP(Z, D), likelihood=bernoulli, prior=AutoregressiveFlowPrior(Z + 1))
    with pytest.raises(ProgramError, match=r"'z' has event shape \(3,\) in the guide and \(4,\) in the model"):
        Loss(Pathwise(), program)(data())
