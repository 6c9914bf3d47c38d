"""Labels that are given and never modelled: log p(x | y), known, is what every verb finds."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.evaluation.evaluate import evaluate
from pplvm.evaluation.information import aggregate_posterior
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.samples import prior_samples, reconstructions
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from tests.seams.programs import Conditional

X = torch.tensor([[0.3, -1.1, 0.4, 1.9], [1.2, 0.3, -0.7, 0.1], [-0.5, 0.9, 1.4, -1.3]]).double()
Y = torch.tensor([2, 0, 1])


def test_at_the_posterior_every_log_weight_is_log_p_of_x_given_y():
    program = Conditional(4, 3, latent_size=1).at_posterior()
    truth = program.log_given(X, Y).detach()
    found = importance_sampled(program, (X, Y), ks=(1, 30))
    torch.testing.assert_close(found.log_p, truth[:, None].expand(3, 2))
    assert (program.log_given(X, Y.roll(1)).detach() - truth).abs().min() > 0.5  # another label would be seen
    for objective in (Pathwise(elbo, 3), Pathwise(iwae, 5)):
        torch.testing.assert_close(-Loss(objective, program)(X, Y), truth.mean())


def test_away_from_it_the_bound_rises_to_it():
    program = Conditional(4, 3)
    found = importance_sampled(program, (X, Y), ks=(1, 2000))
    truth = program.log_given(X, Y).detach()
    assert (found.elbo < truth).all() and (found.log_p[:, -1] - truth < 5 * found.error[:, -1]).all()


def test_samples_and_reconstructions_are_of_the_labels_that_were_given():
    program = Conditional(4, 3)
    y = torch.arange(3).repeat(60)
    draws = prior_samples(program, (torch.zeros(1, 4).double(), torch.zeros(1, dtype=torch.long)), 3000).draw
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - program.means[0].detach()).abs() < 5 * error).all()
    made = reconstructions(program, (X.repeat(60, 1), y))
    assert made.shape == (180, 4)
    shift = (made[0::3].mean(0) - made[1::3].mean(0)).abs().max()
    assert shift > 0.3


def test_figures_say_that_they_are_given_labels():
    names = [figure.name for figure in evaluate(Conditional(4, 3), (X, Y), ks=(1, 10)).sections["likelihood"]]
    assert any("log p(x | y)" in name for name in names), names
    assert not any("log p(x)" in name for name in names), names


class FarPriors(nn.Module):
    """z ~ N(m_y, 1), x ~ N(z, 1), m = (-20, 0, 20), with the exact posterior as guide."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([-20.0, 0.0, 20.0]))

    def model(self, x, y):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(self, x, y):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal((x[:, 0] + self.loc[y]) / 2, 0.5**0.5))


def test_what_is_left_of_the_rate_is_called_no_divergence_where_the_prior_reads_the_label():
    """Of one datum a label: I_q(x, y; z) = log 3, and what is left is KL(q(z | x, y) || p(z | y)) - log 3 < 0."""
    x, y = torch.tensor([[-20.0], [0.0], [20.0]]).double(), torch.arange(3)
    figures = {figure.name: figure for figure in aggregate_posterior(FarPriors(), (x, y), num_particles=4000).figures}
    left = figures["E_q log q(z) - log p(z | y)"]
    rate = 0.5 * (0.5 - 1 - math.log(0.5))  # of N(m, 1/2) from N(m, 1)
    assert left.value == pytest.approx(rate - math.log(3), abs=0.05) and left.value < -0.5
    assert not any(name.startswith("KL") for name in figures)
