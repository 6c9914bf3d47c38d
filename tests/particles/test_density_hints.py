"""Draws and data to which a distribution gives no density: the cause and the cure in one sentence."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.samples import prior_samples
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.wake_sleep import WakeSleep
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles

COUNTS = torch.tensor([[1.0, 2.0, 0.0, 4.0], [0.0, 1.0, 1.0, 0.0], [3.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


class Topics(nn.Module):
    """Counts of four words, rows of 7, 2 and 3 of them."""

    def __init__(self, words) -> None:
        super().__init__()
        self.words, self.decoder = words, nn.Linear(2, 4)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", self.words(x, self.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(x[:, :2], 1.0).to_event(1))


def by_row(x: Tensor, logits: Tensor) -> dist.TorchDistribution:
    return dist.Multinomial(x.sum(-1).int(), logits=logits)


def as_told(x: Tensor, logits: Tensor) -> dist.TorchDistribution:
    return dist.Multinomial(int(x.sum(-1).max()), logits=logits)


@pytest.mark.parametrize("ask", [lambda p: Loss(Pathwise(), p)(COUNTS), lambda p: importance_sampled(p, COUNTS)])
def test_a_multinomial_of_totals_by_row_is_told_what_to_do(ask):
    with pytest.raises(ProgramError, match=r"give total_count=int\(x.sum\(-1\).max\(\)\), the density goes by the tot"):
        ask(Topics(by_row))


def test_what_it_is_told_gives_each_row_its_own_density():
    drawn = draw_particles((program := Topics(as_told)).model, program.guide, COUNTS)
    logits = program.decoder(drawn.model_trace.nodes["z"]["value"])
    for row, logit, found in zip(COUNTS, logits, drawn.log_p_sites["x"][0], strict=True):
        assert torch.allclose(found, dist.Multinomial(int(row.sum()), logits=logit).log_prob(row))


def test_data_that_cannot_be_drawn_are_no_dreams():
    program = Topics(lambda x, logits: dist.DirichletMultinomial(logits.exp(), x.sum(-1)))
    with pytest.raises(ObjectiveError, match="the model cannot draw its data: Inhomogeneous total count"):
        Loss(WakeSleep(), program)(COUNTS)
    assert prior_samples(program, COUNTS[:1], 3).draw.sum(-1).tolist() == [7.0] * 3  # rows of one total can


class Relaxed(nn.Module):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = torch.tensor(temperature, dtype=torch.float32)
        self.logits = nn.Parameter(torch.zeros(5, dtype=torch.float32))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.relaxed(torch.zeros(5, dtype=torch.float32)))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.relaxed(self.logits))

    def relaxed(self, logits: Tensor) -> dist.TorchDistribution:
        return dist.RelaxedOneHotCategorical(self.temperature, logits=logits)


@pytest.mark.parametrize("temperature", [0.04, 0.01])  # zeros, of no density, and at last no simplex any more
def test_relaxed_draws_that_underflow_are_told_of_their_temperature(temperature):
    x = torch.zeros(50, 5, dtype=torch.float32)
    Loss(Pathwise(), Relaxed(1.0))(x).backward()
    with pytest.raises(ProgramError, match="guide site 'z' gives its value no .*density: .* raise the temperature"):
        Loss(Pathwise(), Relaxed(temperature))(x)
