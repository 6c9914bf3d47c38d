"""Pyro's automatic guides: their parameters reach an optimizer, and serve the rows that they were made for."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoDiagonalNormal, AutoIAFNormal, AutoNormal
from torch import nn

from pplvm.bounds import elbo
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.autoguides import same_rows
from pplvm.particles.contract import ProgramError
from pplvm.particles.draw import draw_particles
from pplvm.training.fit import fit

THETA = 0.3


class Auto(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z + theta, 1): an AutoNormal holds each row's posterior N((x - theta) / 2, 1 / 2)."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(THETA), requires_grad=False)
        self.auto = AutoNormal(self.model)

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([len(x)]))
            pyro.sample("x", dist.Normal(z + self.theta, 1.0), obs=x)

    def guide(self, x):
        return self.auto((x - self.theta).detach())  # not x itself


def data(n=8):
    return torch.randn(n, generator=torch.Generator().manual_seed(0)) * 1.4 + 1.0


def test_an_optimizer_made_before_the_first_batch_is_told_so_before_anything_moves():
    program, x = Auto(), data()
    program.theta.requires_grad_()
    loss = Loss(Pathwise(elbo, 5), program)
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    words = r"^2 parameters came with the first batch \(program.auto.locs.z_unconstrained, .*: run the loss once, loss"
    with pytest.raises(ValueError, match=words):
        list(fit(loss, 3 * [x], optimizer))
    assert float(program.theta.detach()) == THETA


@pytest.mark.parametrize("by", ["loss(x)", "loss.parts(x)"])
def test_on_one_fixed_batch_it_reaches_log_p(by):
    x = data()
    loss = Loss(Pathwise(elbo, 5), Auto())
    if by == "loss(x)":
        loss(x)
        optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 0.05)
    else:
        parts = loss.parts(x)
        assert [len(part) for part in parts.values()] == [0, 2, 0]
        optimizer = {"guide": torch.optim.Adam(parts["guide"], 0.05)}
    values = torch.stack(list(fit(loss, [x.clone() for _ in range(400)], optimizer, compile="off")))
    truth = -dist.Normal(THETA, 2**0.5).log_prob(x).mean()
    assert abs(values[-20:].mean() - truth) < 0.02 < 0.2 < values[0] - truth


def test_other_rows_are_refused_in_one_sentence():
    x, other, words = (
        data(16)[:8],
        data(16)[8:],
        "^the guide's AutoNormal keeps parameters for each of the 8 rows of its",
    )
    program = Auto()
    loss = Loss(Pathwise(), program)
    loss(x)
    loss(x.clone())
    for batch, which in ((other, "others"), (other[:5], "5 rows")):
        for run in (loss, lambda x: draw_particles(program.model, program.guide, x)):
            with pytest.raises(
                ProgramError, match=f"{words}.* this batch holds {which}: give all data as one batch, in"
            ):
                run(batch)
    with pytest.raises(ProgramError, match="this batch holds 1 rows"):
        importance_sampled(program, x, ks=(1,))
    optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 0.1)
    with pytest.raises(ProgramError, match="this batch holds others"):
        list(fit(loss, [x, other], optimizer))


def test_other_rows_are_refused_in_a_step_of_svi():
    x, other, program = data(16)[:8], data(16)[8:], Auto()
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.05}), Pathwise())
    with pyro.get_param_store().scope():
        assert svi.step(x) > 0
        for run in (svi.step, svi.evaluate_loss):
            with pytest.raises(
                ProgramError, match=r"8 rows of its first batch, and this batch holds others: .* from x$"
            ):
                run(other)


@pytest.mark.parametrize("kind", [AutoDiagonalNormal, AutoIAFNormal])
def test_an_automatic_guide_that_draws_all_data_as_one_is_told_what_to_use(kind):
    program = Auto()
    program.auto = kind(program.model)
    with pytest.raises(ProgramError, match=f"^the guide's {kind.__name__} draws .* as one: use AutoNormal, .* plate$"):
        Loss(Pathwise(), program)(data())


def test_a_graph_does_not_hide_the_rows():
    x, other = data(16)[:8], data(16)[8:]
    loss = Loss(Pathwise(), Auto())
    loss(x)
    optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 0.1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(ProgramError, match="this batch holds others"):
            list(fit(loss, [x, x, other], optimizer, compile="graph"))
    assert any("keeps parameters for each row" in str(each.message) for each in told)


def test_a_guide_of_latents_that_all_data_share_serves_every_batch():
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    guide = AutoNormal(model)
    with pyro.get_param_store().scope():
        guide(data())
        with same_rows([guide]):
            assert guide(data()[:3])["w"].shape == ()
