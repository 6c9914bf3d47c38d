"""A program that is not finite is told by site, row and cause: its parameters, draws, densities and slopes."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pplvm.bounds import iwae
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.wake_sleep import ReweightedWakeSleep
from pplvm.particles.contract import ProgramError
from pplvm.training.fit import fit

B, ROW = 5, 3
BOUNDED = r"as softplus\(h\) \+ 1e-4 or h.clamp\(-10, 10\).exp\(\)"


FINITE = {
    "prior": lambda x, s: dist.Normal(torch.zeros(len(x), 2), 1.0),
    "likelihood": lambda x, z, s: dist.Normal(z.sum(-1) + s, 1.0),
    "observed": lambda x, s: x,
    "posterior": lambda x, s: dist.Normal(s + torch.zeros(len(x), 2), 1.0),
}


class Story(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z_1 + z_2, 1) unless other parts are given."""

    def __init__(self, **parts):
        super().__init__()
        self.shift, self.parts = nn.Parameter(torch.zeros(())), FINITE | parts

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self.parts["prior"](x, self.shift).to_event(1))
            pyro.sample("x", self.parts["likelihood"](x, z, self.shift), obs=self.parts["observed"](x, self.shift))

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.parts["posterior"](x, self.shift).to_event(1))


def in_row(value, where=(1,), shape=(B, 2), other=1.0):
    full = torch.full(shape, other)
    full[(ROW, *where)] = value
    return full


FAULTS = {
    "scale underflows": (
        {"posterior": lambda x, s: dist.Normal(s, in_row(0.0))},
        rf"^the scale of guide site 'z' is 0 in row 3: bound it, {BOUNDED}$",
    ),
    "scale overflows": (
        {"posterior": lambda x, s: dist.Normal(s, in_row(torch.inf))},
        rf"^the scale of guide site 'z' is inf in row 3: bound it, {BOUNDED}$",
    ),
    "scale both": (
        {"posterior": lambda x, s: dist.Normal(s, in_row(0.0).index_fill(1, torch.tensor(0), torch.inf))},
        "^the scale of guide site 'z' is inf or 0 in all rows: bound it",
    ),
    "scale below zero": (
        {"posterior": lambda x, s: dist.Normal(s, in_row(-2.0))},
        rf"^the scale of guide site 'z' is -2 in row 3: make it positive, {BOUNDED}$",
    ),
    "scale of the prior": (
        {"prior": lambda x, s: dist.Normal(torch.zeros(B, 2), in_row(0.0))},
        "^the scale of model site 'z' is 0 in row 3: bound it",
    ),
    "loc is NaN": (
        {"posterior": lambda x, s: dist.Normal(in_row(torch.nan), 1.0)},
        "^the loc of guide site 'z' is nan in row 3: look for a division by 0, or a log or sqrt of 0 or less",
    ),
    "loc of all": (
        {"posterior": lambda x, s: dist.Normal(s + torch.full((2,), torch.nan), 1.0).expand([len(x), 2])},
        "^the loc of guide site 'z' is nan in all rows",
    ),
    "logits of categories": (
        {
            "likelihood": lambda x, z, s: dist.Categorical(logits=in_row(torch.nan, (0,))),
            "observed": lambda x, s: 0 * x,
        },
        "^the logits of model site 'x' is nan in row 3: look for",
    ),
    "covariance": (
        {
            "likelihood": lambda x, z, s: dist.MultivariateNormal(
                torch.zeros(2), scale_tril=torch.eye(2) * in_row(-1.0, (0, 0), (B, 2, 2))
            ),
            "observed": lambda x, s: torch.zeros(B, 2),
        },
        "^the scale_tril of model site 'x' is .* in row 3",
    ),
    "value outside the density": (
        {
            "likelihood": lambda x, z, s: dist.Gamma(torch.full((B,), 2.0), 1.0),
            "observed": lambda x, s: in_row(0.0, (), (B,)),
        },
        "^the log-density of model site 'x' is -inf in row 3: keep its value off the ends of its support",
    ),
    "square of a scale": (
        {"posterior": lambda x, s: dist.Normal(s, in_row(1e-200))},
        r"^the log-density of guide site 'z' is .* in row 3: the square of its scale is 0 or infinite: bound",
    ),
    "observed NaN, masked": (
        {
            "likelihood": lambda x, z, s: dist.Normal(z.sum(-1) + s, 1.0).mask(torch.arange(B) != ROW),
            "observed": lambda x, s: in_row(torch.nan, (), (B,)),
        },
        r"^model site 'x' holds NaN in row 3, and a mask hides .* not its gradient: put any .* torch.where\(mask",
    ),
    "slope": (
        {"likelihood": lambda x, z, s: dist.Normal((x.abs() * s.exp()).sqrt(), 1.0)},
        "^the gradient of the log-density of model site 'x' is not finite in row 3: keep what a sqrt, a log, a ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_by_site_row_and_cause(fault):
    parts, words = FAULTS[fault]
    validates = torch.distributions.Distribution._validate_args
    x = torch.randn(B)
    x[ROW] = 0.0
    before = torch.get_rng_state()
    found = Loss(Pathwise(), Story(**parts)).explain(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert found is not None and re.search(words, found), found
    assert torch.distributions.Distribution._validate_args is validates


def test_finite_programs_have_no_fault():
    ruled_out = torch.tensor([0.0, -torch.inf, 0.0])
    categories = {
        "likelihood": lambda x, z, s: dist.Categorical(logits=s + ruled_out),
        "observed": lambda x, s: 0 * x,
    }
    for parts in ({}, categories, {"likelihood": lambda x, z, s: dist.Gamma(z.exp().sum(-1), 1.0).mask(False)}):
        assert Loss(Pathwise(), Story(**parts)).explain(torch.rand(B)) is None


def test_the_first_batch_is_refused_in_the_same_words():
    scale = in_row(0.0)
    with pytest.raises(ProgramError, match=rf"^the scale of guide site 'z' is 0 in row 3: bound it, {BOUNDED}$"):
        Loss(Pathwise(), Story(posterior=lambda x, s: dist.Normal(s, scale)))(torch.randn(B))
    masked = lambda x, z, s: dist.Normal(z.sum(-1) + s, 1.0).mask(torch.arange(B) != ROW)
    story = Story(likelihood=masked, observed=lambda x, s: in_row(torch.nan, (), (B,)))
    with pytest.raises(
        ProgramError, match="'x' holds NaN in row 3, and a mask hides a density but not its gradient: put"
    ):
        Loss(Pathwise(), story)(torch.randn(B))
    story.parts["observed"] = lambda x, s: x.nan_to_num(0.0)
    x = in_row(torch.nan, (), (B,))
    Loss(Pathwise(), story)(x).backward()  # the cure holds
    assert story.shift.grad.isfinite()


def test_training_stops_at_step_0_with_the_cause_and_no_talk_of_learning_rates():
    story = Story(posterior=lambda x, s: dist.Normal(s, in_row(1e-200)))
    optimizer = torch.optim.Adam(story.parameters(), lr=1e-3)
    with pytest.raises(
        FloatingPointError, match="^step 0: the loss is .*the log-density of guide site 'z' .* in row 3: "
    ) as e:
        list(fit(Loss(Pathwise(), story), [torch.randn(B)], optimizer))
    assert "learning rate" not in str(e.value) and float(story.shift.detach()) == 0.0


def test_a_density_that_is_no_number_is_not_taken_for_dropout():
    story = Story(posterior=lambda x, s: dist.Normal(s, in_row(1e-200)))
    optimizer = torch.optim.Adam(story.parameters(), lr=1e-3)
    with pytest.raises(FloatingPointError, match="^step 0: the loss is nan: the log-density of guide site 'z'"):
        list(fit(Loss(DoublyReparameterized(iwae, 2), story), [torch.randn(B)], optimizer))


def test_what_is_advised_at_a_masked_discrete_site_can_be_done():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.logit, self.mask = nn.Parameter(torch.zeros(())), torch.arange(B) != ROW

        def model(self, x):
            with pyro.plate("batch", len(x)):
                with poutine.mask(mask=self.mask):
                    b = pyro.sample("b", dist.Bernoulli(0.3))
                pyro.sample("x", dist.Normal(b, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("batch", len(x)), poutine.mask(mask=self.mask):
                pyro.sample("b", dist.Bernoulli(logits=self.logit))

    program, x = Masked(), torch.randn(B)
    with pytest.raises(ObjectiveError, match="guide site 'b' is masked, which hides it: use LeaveOneOut$"):
        Loss(ReweightedWakeSleep(num_particles=2, insomnia=1), program)(x)
    for advised in (LeaveOneOut(num_particles=2), ScoreFunction()):
        Loss(advised, program)(x).backward()
