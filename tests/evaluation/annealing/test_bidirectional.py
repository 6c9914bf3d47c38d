"""Simulated data: log p(x) lies between the two bounds, the gap falls with the steps, and what cannot be simulated is
refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pplvm.evaluation.annealing.annealed import annealed
from pplvm.evaluation.annealing.bidirectional import bidirectional
from pplvm.evaluation.per_datum import each_datum, evaluation_mode
from pplvm.particles.contract import ProgramError
from pplvm.particles.dreams import dream
from tests.evaluation.annealing.test_annealed import known, log_evidence
from tests.evaluation.annealing_problems import GammaPoisson, Mixed, z_of
from tests.problems import linear_gaussian

LIMIT = 5.0


def off_guide():
    program = linear_gaussian()
    with torch.no_grad():
        program.encoder.bias += 1.0
    return program


def simulated(program, like, data, seed=0):
    """The data that `bidirectional` simulates."""
    with evaluation_mode(program, like) as pair:
        return torch.cat([dream(pair, (like[:1],), {})[1] for _ in each_datum(torch.arange(data), seed)])


@pytest.mark.parametrize(("build", "like"), [(off_guide, [[0.0, 0.0, 0.0]]), (Mixed, [0.0])])
def test_log_evidence_lies_between_and_the_gap_falls(build, like):
    program, like, data = build(), torch.tensor(like), 8
    truth = log_evidence(program, simulated(program, like, data))
    one, twelve = (bidirectional(program, like, data=data, chains=4, steps=steps) for steps in (1, 12))
    for found in (one, twelve):
        assert z_of(found.lower - truth) < LIMIT and z_of(found.upper - truth) > -LIMIT
    assert z_of(one.gap) > 1.5 and float(twelve.gap.mean()) < float(one.gap.mean()) / 2
    error = float(twelve.gap.std() / data**0.5)
    assert abs(float((twelve.lower - truth).mean())) < float(twelve.gap.mean()) + 4 * error


def test_the_lower_bound_is_that_of_annealed():
    program, like = off_guide(), torch.zeros(1, 3)
    found = bidirectional(program, like, data=3, chains=4, steps=4, seed=5)
    x = simulated(program, like, 3, seed=5)
    assert torch.equal(found.lower, annealed(program, x, chains=4, steps=4, seed=5).log_px)


def test_shares_of_the_data_make_the_whole():
    numbers = (5, range(0, 5, 2), range(1, 5, 2))
    whole, *parts = (bidirectional(Mixed(), torch.zeros(1), data=which, chains=2, steps=3) for which in numbers)
    for field in ("lower", "upper", "acceptance"):
        for start, part in enumerate(parts):
            assert torch.equal(getattr(whole, field)[start::2], getattr(part, field))


@pytest.mark.parametrize("name", ["positive", "simplex", "nested", "layers", "codes"])
@pytest.mark.parametrize("start", ["guide", "prior"])
def test_every_kind_of_program(name, start):
    program, x = known(name)
    found = bidirectional(program, x, data=3, chains=4, steps=4, start=start)
    assert found.gap.shape == (3,) and found.gap.isfinite().all()
    assert torch.equal(found.gap, bidirectional(program, x, data=3, chains=4, steps=4, start=start).gap)


def test_simulated_data_are_draws_of_the_model():
    """Poisson over Gamma: mean a / b, variance a / b + a / b^2."""
    x = simulated(GammaPoisson(), torch.zeros(1), 500)
    assert abs(z_of(x - 4.0)) < LIMIT and abs(z_of((x - 4.0).square() - 12.0)) < LIMIT


def test_figures_say_that_the_data_are_simulated():
    found = bidirectional(Mixed(), torch.zeros(1), data=4, chains=2, steps=2)
    assert [figure.name for figure in found.figures] == ["lower bound", "upper bound", "gap"]
    assert all("data that the model drew" in figure.note for figure in found.figures)
    assert found.figures[2].value == pytest.approx(float(found.gap.mean()))


class Reader(nn.Module):
    """Reads the data beside observing them, like an autoregressive decoder."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(torch.stack([z, z + x[:, 0]], -1), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))


class Changed(Reader):
    """Observes the data in another unit."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(torch.stack([z, z], -1), 1.0).to_event(1), obs=x / 10)


class Twice(Reader):
    """Observes the data at two sites."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("left", dist.Normal(z, 1.0), obs=x[:, 0])
            pyro.sample("right", dist.Normal(z, 1.0), obs=x[:, 1])


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (Reader(), "reads the data before"),
        (Changed(), "are not the data"),
        (Twice(), "'left' and 'right'"),
    ],
)
def test_what_cannot_be_simulated_is_refused(program, words):
    with pytest.raises(ProgramError, match=words):
        bidirectional(program, torch.zeros(1, 2), data=2, chains=2, steps=2)
    assert annealed(program, torch.zeros(1, 2), chains=2, steps=2).log_px.isfinite().all()


def test_no_data_are_refused():
    with pytest.raises(ValueError, match="data must be an integer of at least 1, got 0"):
        bidirectional(Mixed(), torch.zeros(1), data=0)
