"""Guides at models whose posterior is known: full covariance attains log p(x), refinement climbs to the posterior."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from pplvm.bounds import iwae
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise, closed_forms
from pplvm.particles.draw import draw_particles
from pplvm.programs.guides import FullCovariance, SemiAmortized
from pplvm.programs.parts import GaussianLikelihood, StandardNormal, bernoulli
from pplvm.programs.vae import VAE

D, Z, S = 4, 3, 0.7


def linear_gaussian(encoder_size):
    """z ~ N(0, I), x ~ N(W z + b, S^2 I), columns not orthogonal; parts, and the exact posterior and evidence."""
    torch.manual_seed(1)
    decoder, encoder, likelihood = nn.Linear(Z, D), nn.Linear(D, encoder_size), GaussianLikelihood()
    nn.init.constant_(likelihood.log_scale, torch.tensor(S).log())
    W, b = decoder.weight.detach(), decoder.bias.detach()
    covariance = torch.linalg.inv(torch.eye(Z) + W.T @ W / S**2)
    gain = covariance @ W.T / S**2
    evidence = MultivariateNormal(b, W @ W.T + S**2 * torch.eye(D))
    parts = {"decoder": decoder, "likelihood": likelihood, "prior": StandardNormal(Z)}
    return parts, encoder, (gain, -gain @ b, covariance), evidence


def elbos(program, x, K=1):
    found = draw_particles(program.model, program.guide, x, num_particles=K)
    (divergence,) = closed_forms(found).values()
    return found, (found.log_p_sites["x"] - divergence).detach()


def test_full_covariance_attains_log_p_of_x_as_no_diagonal_one_can():
    head = FullCovariance(Z)
    parts, encoder, (gain, offset, covariance), evidence = linear_gaussian(head.input_size)
    factor = torch.linalg.cholesky(covariance)
    rows, columns = torch.tril_indices(Z, Z, -1)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:Z] = gain
        encoder.bias.copy_(torch.cat([offset, factor.diagonal().log(), factor[rows, columns]]))
    x = torch.randn(5, D)
    program = VAE(encoder=nn.Sequential(encoder, head), **parts)
    found = draw_particles(program.model, program.guide, x, num_particles=7)
    torch.testing.assert_close(found.log_weights, evidence.log_prob(x).expand(7, 5), atol=1e-10, rtol=0)
    (divergence,) = closed_forms(found).values()
    assert divergence.shape in ((5,), (7, 5))
    with torch.no_grad():
        encoder.bias[2 * Z :] = 0  # diagonal
    many = draw_particles(program.model, program.guide, x, num_particles=500).log_weights.mean(0)
    assert (many < evidence.log_prob(x) - 0.01).all()


def test_full_covariance_by_hand():
    head, parameters = FullCovariance(3), torch.randn(2, 9)
    loc, log_diagonal, lower = parameters.split([3, 3, 3], -1)
    expected = torch.zeros(2, 3, 3)
    expected[:, 0, 0], expected[:, 1, 1], expected[:, 2, 2] = log_diagonal.exp().T
    expected[:, 1, 0], expected[:, 2, 0], expected[:, 2, 1] = lower.T
    torch.testing.assert_close(head(parameters).scale_tril, expected)
    assert torch.equal(head(parameters).loc, loc) and FullCovariance(1).input_size == 2
    assert FullCovariance(1)(torch.zeros(4, 2)).rsample().shape == (4, 1)


def refined(steps=5, through=True, parts=None, encoder=None, **settings):
    if parts is None:
        parts = {"decoder": MLP(2, 6, (5,)), "likelihood": bernoulli, "prior": StandardNormal(2)}
    encoder = encoder or MLP(6, 4, (5,))
    Z = parts["prior"].zeros.numel()
    guide = SemiAmortized(encoder, **parts, latent_size=Z, num_steps=steps, through=through, **settings)
    return VAE(encoder=guide, **parts)


def binary(B=8):
    return torch.bernoulli(torch.full((B, 6), 0.4))


@pytest.mark.parametrize("through", [True, False])
def test_refinement_raises_the_elbo_of_a_poor_encoder_to_the_best_diagonal_normal(through):
    """Of the linear Gaussian that is the posterior's mean, and its precision's diagonal."""
    parts, encoder, (gain, offset, covariance), evidence = linear_gaussian(2 * Z)
    x = torch.randn(5, D)
    precision = torch.linalg.inv(covariance)
    best = evidence.log_prob(x) - (precision.diagonal().log().sum() - torch.logdet(precision)) / 2
    values = []
    for steps in (0, 1, 3, 60):
        program = refined(steps, through, parts, encoder, num_pairs=200)
        loc, log_scale = program.encoder(x).detach().chunk(2, -1)
        torch.manual_seed(3)
        many = draw_particles(program.model, program.guide, x, num_particles=1000).log_weights.detach()
        values.append(many.mean(0))
    assert all((b > a).all() for a, b in zip(values[:-1], values[1:], strict=True))
    assert ((values[-1] - best).abs() < 5 * many.std(0) / 1000**0.5 + 0.01).all()
    torch.testing.assert_close(loc, x @ gain.T + offset, atol=1e-6, rtol=0)
    torch.testing.assert_close((-2 * log_scale).exp(), precision.diagonal().expand(5, Z), atol=0, rtol=0.2)


def test_no_steps_are_the_encoder_itself():
    program, x = refined(0), binary()
    assert torch.equal(program.encoder(x), program.encoder.encoder(x))


def test_without_gradient_and_on_any_part_of_the_batch_it_is_the_same():
    program, x = refined(), binary()
    with torch.no_grad():
        found = program.encoder(x)
    assert not found.requires_grad
    torch.testing.assert_close(found, program.encoder(x).detach())
    torch.testing.assert_close(found.flip(0), program.encoder(x.flip(0)).detach())
    torch.testing.assert_close(found[:3], program.encoder(x[:3]).detach())
    figures = importance_sampled(program, x, ks=(1, 50)).figures
    assert len(figures) > 1


def test_gradients_through_the_steps_are_those_of_differences_and_stopped_ones_are_the_identity():
    x = binary(3)
    for through in (True, False):
        program = refined(2, through)
        bias, weight = program.encoder.encoder.last.bias, program.decoder.last.bias
        of = lambda: program.encoder(x)[:, 0].sum()  # noqa: B023
        slopes = torch.autograd.grad(of(), (bias, weight), allow_unused=True)
        if not through:
            torch.testing.assert_close(slopes[0], torch.tensor([3.0, 0.0, 0.0, 0.0]))
            assert slopes[1] is None
            continue
        for parameter, slope in zip((bias, weight), slopes, strict=True):
            for i in range(len(parameter)):
                with torch.no_grad():
                    parameter[i] += 1e-5
                    above = of()
                    parameter[i] -= 2e-5
                    below = of()
                    parameter[i] += 1e-5
                torch.testing.assert_close((above - below) / 2e-5, slope[i], atol=1e-7, rtol=1e-5)


def test_the_encoder_is_the_guides_alone_and_the_decoder_the_models():
    for through in (True, False):
        program = refined(2, through)
        parts = Loss(AnalyticKL(), program).parts(binary())
        assert {id(p) for p in parts["guide"]} == {id(p) for p in program.encoder.encoder.parameters()}
        assert {id(p) for p in parts["model"]} == {id(p) for p in program.decoder.parameters()}


def full(Z=2):
    head = FullCovariance(Z)
    return VAE(6, Z, (5,), encoder=nn.Sequential(MLP(6, head.input_size, (5,)), head))


@pytest.mark.parametrize("make", [refined, lambda: refined(through=False), full])
def test_one_graph(make):
    program, x = make(), binary()
    for objective in (AnalyticKL(2), Pathwise(iwae, 3)):
        loss, found = Loss(objective, program), []
        for each in (loss, compiled(loss, "graph")):
            loss.zero_grad()
            torch.manual_seed(2)
            value = each(x)
            value.backward()
            found.append(torch.cat([value.detach()[None], *[p.grad.flatten() for p in loss.parameters()]]))
        torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: FullCovariance(0), "latent_size must be at least 1, got 0"),
        (lambda: refined(-1), "num_steps must be at least 0, got -1"),
        (lambda: refined(step_size=0.0), r"step_size must lie in \(0, 1\], got 0"),
        (lambda: refined(num_pairs=0), "num_pairs must be at least 1, got 0"),
    ],
)
def test_what_makes_no_guide_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
