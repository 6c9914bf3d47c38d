"""AnalyticKL where a guide carries a change of variables, as Pyro's AutoGuides do: by quadrature."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL
from pplvm.objectives.tempered import Beta
from tests.evaluation.test_rate_distortion import Positive, quadrature_of_positive
from tests.problems import hermite_grid


@pytest.mark.parametrize("how", ["plain", "one draw each", "one draw for both"])
@pytest.mark.parametrize("make, beta", [(AnalyticKL, 1.0), (lambda: Beta(AnalyticKL(), 3.0), 3.0)])
def test_analytic_kl_of_a_change_of_variables(make, beta, how):
    """The value is the elbo, the gradient that of its rates times beta, the Jacobian among them."""
    program, x = Positive(how), torch.tensor([[0.5], [3.0]]).double()
    rate_r, rate_z, elbo = quadrature_of_positive(program, x[:, 0])
    weighed = (elbo + (1 - beta) * (rate_r + rate_z)).mean()
    truth = torch.cat(torch.autograd.grad(weighed, list(program.parameters())))
    loss = -Loss(make(), program)(x.repeat(30_000, 1))
    found = torch.cat(torch.autograd.grad(loss, list(program.parameters())))
    assert abs(float(loss.detach() - elbo.mean().detach())) < 0.05 and (found - truth).abs().max() < 0.06 * beta


def test_analytic_kl_under_pyros_own_autoguide():
    """One positive latent a datum: r ~ Gamma(2, 1), x ~ Poisson(r), log r ~ N(loc_b, scale_b) in the guide."""

    class Auto(nn.Module):
        def __init__(self, x):
            super().__init__()
            self.guide = AutoNormal(self.model, init_scale=0.5, create_plates=lambda x: self.plate(x))
            self.guide(x)

        def plate(self, x):
            return pyro.plate("batch", len(x), dim=-1)

        def model(self, x):
            with self.plate(x):
                r = pyro.sample("r", dist.Gamma(torch.tensor(2.0), 1.0).expand([len(x)]))
                pyro.sample("x", dist.Poisson(r), obs=x)

    with pyro.get_param_store().scope():
        x = torch.tensor([1.0, 4.0])
        torch.manual_seed(0)
        program = Auto(x)
        loc, scale = program.guide.locs.r.detach(), program.guide.scales.r.detach()
        probability, noise = hermite_grid(30, 1)
        r = (loc + scale * noise[0][:, None]).exp().detach()
        log_w = dist.Gamma(2.0, 1.0).log_prob(r) + dist.Poisson(r).log_prob(x) - dist.LogNormal(loc, scale).log_prob(r)
        truth = float((probability @ log_w).mean())
        objectives = AnalyticKL(20_000), Beta(AnalyticKL(20_000), 1.0)
        with torch.no_grad():
            found = [float(-Loss(objective, program)(x)) for objective in objectives]
        assert found == pytest.approx([truth, truth], abs=0.03)
