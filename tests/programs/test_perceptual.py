"""The perceptual penalty: beside VAE, VQ-VAE and diffusion prior alike, in the surrogate alone, frozen, and refused."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.catalog import OBJECTIVES, find
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.graphs.compiled import compiled
from pplvm.networks.classifier import ImageClassifier
from pplvm.networks.feature_distance import FeatureDistance
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.penalized import Penalized
from pplvm.particles.draw import draw_particles
from pplvm.programs.diffusion_prior import diffusion_prior
from pplvm.programs.perceptual import Perceptual
from pplvm.programs.vae import VAE
from pplvm.programs.vq_vae import vq_vae

D = 16

PROGRAMS = {
    "vae": lambda: VAE(D, 2, (5,)),
    "vae, gaussian": lambda: VAE(D, 2, (5,), "gaussian"),
    "vae, grey": lambda: VAE(D, 2, (5,), "discretized-logistic", levels=2),
    "diffusion prior": lambda: diffusion_prior(D, 2, (5,), num_steps=3),
    "vq-vae": lambda: vq_vae(D, (1, 2), 5, 3, (5,)),
}


@pytest.fixture
def x():
    return (torch.rand(3, 4, 4) < 0.5).double()


def perceptual(make):
    torch.manual_seed(0)
    features = ImageClassifier((1, 4, 4), 3, channels=(3, 4), hidden_size=5).features
    return Perceptual(make(), FeatureDistance(features))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("K", [1, 2])
def test_the_penalty_moves_the_gradient_and_never_the_value(name, K, x):
    found = {}
    for weight in (None, 0.0, 100.0):
        program = perceptual(PROGRAMS[name])
        objective = find("objective", OBJECTIVES, program.default_objective or "pathwise")(num_particles=K)
        penalties = program.default_penalties | ({} if weight is None else {"perceptual": weight})
        loss = Loss(Penalized(objective, penalties) if penalties else objective, program)
        torch.manual_seed(1)
        value = loss(x)
        value.backward()
        found[weight] = value.detach(), torch.cat([p.grad.flatten() for p in program.parameters() if p.requires_grad])
        assert all(p.grad is None for p in program.distance.parameters())
    assert found[None][0] == found[0.0][0] == found[100.0][0]
    torch.testing.assert_close(found[0.0][1], found[None][1])
    assert (found[100.0][1] - found[0.0][1]).norm() > 1e-2


def test_it_is_the_distance_of_the_data_and_the_mean_given_each_draw(x):
    program = perceptual(PROGRAMS["vae"])
    drawn = draw_particles(program.model, program.guide, x, num_particles=3)
    nodes = drawn.guide_trace.nodes
    means = program.program.decoder(nodes["z"]["value"]).sigmoid()
    expected = program.distance(x.flatten(1), means)
    torch.testing.assert_close(nodes["perceptual"]["value"], expected)
    assert expected.shape == (3, 3)


def test_a_batch_of_one_has_one_penalty(x):
    program = perceptual(PROGRAMS["vae"])
    for batch in (x[:1], x[:1, None]):
        for K in (1, 2):
            drawn = draw_particles(program.model, program.guide, batch, num_particles=K)
            assert drawn.guide_trace.nodes["perceptual"]["value"].shape[-1:] == (1,)
            Loss(Penalized(Pathwise(elbo, K), {"perceptual": 1.0}), program)(batch).backward()


def test_no_likelihood_changes_with_it(x):
    program = perceptual(PROGRAMS["vae"])
    alone = importance_sampled(program.program, x, ks=(1, 20))
    assert torch.equal(importance_sampled(program, x, ks=(1, 20)).log_p, alone.log_p)
    torch.manual_seed(2)
    bound = Loss(Pathwise(iwae, 3), program)(x)
    torch.manual_seed(2)
    assert bound == Loss(Pathwise(iwae, 3), program.program)(x)


def test_one_graph(x):
    eager = perceptual(PROGRAMS["vae"])
    traced = copy.deepcopy(eager)
    objective = lambda: Penalized(Pathwise(elbo, 2), {"perceptual": 3.0})
    values = []
    for loss in (Loss(objective(), eager), compiled(Loss(objective(), traced), "graph")):
        torch.manual_seed(1)
        values.append(loss(x))
        values[-1].backward()
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)
    for p, q in zip(eager.program.parameters(), traced.program.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.allclose(p.grad, q.grad)


def test_it_is_learned(x):
    program = perceptual(PROGRAMS["vae"])
    loss = Loss(Penalized(AnalyticKL(), {"perceptual": 100.0}), program)
    optimizer, first = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 1e-2), None
    for _ in range(60):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
        first = loss.reported()["perceptual"] if first is None else first
    assert loss.reported()["perceptual"] < 0.85 * first


class WithoutMean(nn.Module):
    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            flow = dist.TransformedDistribution(dist.Normal(z[..., None], 1.0), [dist.transforms.SigmoidTransform()])
            pyro.sample("x", flow.to_event(1), obs=x.flatten(1)[:, :1] / 2 + 0.2)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))


def test_bad_input(x):
    distance = perceptual(PROGRAMS["vae"]).distance
    with pytest.raises(TypeError, match="Linear is no program"):
        Perceptual(nn.Linear(2, 2), distance)
    with pytest.raises(ValueError, match="no observed site 'y': name it"):
        Perceptual(VAE(D, 2, (5,)), distance, observed="y").guide(x)
    with pytest.raises(ValueError, match="has no mean"):
        Perceptual(WithoutMean(), distance).guide(x)
