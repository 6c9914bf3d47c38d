"""The beta-VAE: at beta = 1 it is the VAE, and under a Gaussian likelihood beta is a variance."""

import pytest
import torch
from torch import nn

from pplvm.networks.dense import MLP
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.tempered import Beta
from pplvm.programs.parts import GaussianLikelihood, StandardNormal
from pplvm.programs.vae import VAE

D, Z = 5, 2
OBJECTIVES = {"closed": AnalyticKL, "drawn": Pathwise}


class WithVariance(nn.Module):
    """N(mean, s^2 I) at a fixed variance."""

    def __init__(self, variance):
        super().__init__()
        self.of = GaussianLikelihood()
        self.of.log_scale = nn.Parameter(torch.tensor(variance).log() / 2, requires_grad=False)

    def forward(self, mean):
        return self.of(mean)


def gradients(objective, likelihood, weight=1.0):
    torch.manual_seed(3)
    program = VAE(encoder=MLP(D, 2 * Z, (4,)), decoder=MLP(Z, D, (4,)), likelihood=likelihood, prior=StandardNormal(Z))
    x = torch.randn(6, D)
    loss = Loss(objective, program)
    value = loss(x)
    (weight * value).backward()
    return value.detach(), torch.cat([p.grad.flatten() for p in program.parameters() if p.requires_grad])


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("beta", [0.25, 4.0])
def test_beta_under_a_variance_is_beta_times_the_vae_of_beta_times_the_variance(kind, beta):
    """log p(x | z) / beta has the gradient of that variance, and beta = 1 there reports the bound that beta hides."""
    s2, make = 0.3, OBJECTIVES[kind]
    _, found = gradients(Beta(make(num_particles=2), beta), WithVariance(s2))
    _, expected = gradients(make(num_particles=2), WithVariance(beta * s2), weight=beta)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    _, other = gradients(make(num_particles=2), WithVariance(s2), weight=beta)
    assert (found - other).abs().max() > 1e-3


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_at_beta_one_it_is_the_vae_to_the_bit(kind):
    plain = OBJECTIVES[kind](num_particles=2)
    results = [gradients(each, WithVariance(0.3)) for each in (Beta(plain, 1.0), plain)]
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
