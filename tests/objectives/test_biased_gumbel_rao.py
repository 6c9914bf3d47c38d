"""Gumbel-Rao: straight-through Gumbel-softmax on the same noise, its mean, and less variance for more noise."""

import pyro.distributions as dist
import pytest
import torch

import pplvm
from pplvm.objectives.discrete import Discrete
from pplvm.objectives.objective import Loss, ObjectiveError
from pplvm.objectives.site_draw import SiteDraw
from pplvm.particles.pair import pair_up
from tests.objectives.test_sitewise_categorical import STATES, TwoDice, X
from tests.problems import Forced, entries, per_row_gradients, sampled_gradients

T = 0.4


def test_one_draw_of_the_noise_is_straight_through_gumbel():
    program, found = TwoDice("one-hot"), []
    for objective in (pplvm.BiasedGumbelRao(T, 1, 3), pplvm.BiasedStraightThroughGumbel(T, 3)):
        torch.manual_seed(0)
        value = Loss(objective, program)(X.expand(5, -1))
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(program.parameters()))]))
    assert torch.equal(*found)


def given(draw, noise_draws):
    """Gradients (1000, P) at one draw of both coordinates, of fresh noise in each row."""
    program, rows = TwoDice("one-hot"), []
    pair = pair_up(program.model, program.guide, (X,), {})
    v = torch.nn.functional.one_hot(torch.tensor(draw), 3).to(X).expand(100, 2, 3)
    for _ in range(10):
        with Forced({"z": v}):
            surrogate = pplvm.BiasedGumbelRao(T, noise_draws).estimate(pair, X.expand(100, -1)).surrogate
        rows.append(per_row_gradients(surrogate, [program.logits]))
    return torch.cat(rows)


@pytest.mark.parametrize("draw", STATES[1::4])
def test_the_mean_given_the_draw_and_its_variance(draw):
    """M draws of the noise: the same conditional mean, a conditional variance M times smaller."""
    torch.manual_seed(0)
    one, many = (given(draw, M) for M in (1, 16))
    gap = (one.mean(0) - many.mean(0)) / ((one.var(0) + many.var(0)) / len(one)).sqrt()
    assert gap.abs().max() < 4.5
    assert float(many.var(0).sum() / one.var(0).sum()) == pytest.approx(1 / 16, rel=0.3)


def test_many_draws_are_the_conditional_mean_by_quadrature():
    """Of two categories the gap of the Gumbels is logistic, so the mean slope given the draw is one integral."""
    logits, draw = torch.tensor([0.3, -0.8], requires_grad=True), torch.tensor([[0.0, 1.0]])
    p = logits.detach().softmax(0)[1]
    u = 1 - p * (torch.arange(20_000) + 0.5) / 20_000  # the logistic's, where the second is drawn
    s = ((logits.detach()[1] - logits.detach()[0] + torch.logit(u)) / T).sigmoid()
    slope = float((s * (1 - s)).mean()) / T  # of the second's soft value by its logit
    torch.manual_seed(0)
    rule, site = pplvm.BiasedGumbelRao(T, 100_000).rule, SiteDraw.__new__(SiteDraw)
    moving = rule._moving(site, Discrete(dist.OneHotCategorical(logits=logits)), draw)
    (found,) = torch.autograd.grad(moving[0, 1], logits)
    assert float(found[1]) == pytest.approx(slope, abs=0.01 * slope)
    assert float(found.sum()) == pytest.approx(0, abs=1e-12)


def test_the_mean_of_straight_through_gumbel_at_less_variance():
    program = TwoDice("one-hot")
    torch.manual_seed(0)
    one, many = (sampled_gradients(pplvm.BiasedGumbelRao(0.1, M), program, X, 2000) for M in (1, 32))
    guide = entries(program, "logits")
    gap = (one.mean(0) - many.mean(0)) / ((one.var(0) + many.var(0)) / 2000).sqrt().clamp(min=1e-9)
    assert gap.abs().max() < 4.5
    assert many.var(0)[guide].sum() < 0.8 * one.var(0)[guide].sum()


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_noise_is_counted_from_one(bad):
    with pytest.raises(ObjectiveError, match="noise_draws must be an integer of at least 1"):
        pplvm.BiasedGumbelRao(noise_draws=bad)
    with pytest.raises(ObjectiveError, match="temperature must be positive"):
        pplvm.BiasedGumbelRao(0.0)
