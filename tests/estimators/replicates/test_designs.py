"""Designs of noise keep the mean of the gradient and cut its variance; each point has the program's distribution."""

import pytest
import torch

from pplvm.bounds import elbo
from pplvm.estimators.replicates.designs import DESIGNS, Antithetic, Sobol
from pplvm.estimators.replicates.vmapped import Replicates
from pplvm.graphs.noise import Draw
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import pair_up
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.estimators.replicates.test_vmapped import X, gradients
from tests.graphs.programs import Branching


def test_antithetic_and_sobol_keep_the_mean_and_cut_the_variance():
    """A smooth problem with its gradient in closed form: the elbo at the posterior's own guide, PPCA."""
    torch.manual_seed(0)
    program = ProbabilisticPCA(4, 2)
    x = torch.randn(3, 4)
    loss = Loss(Pathwise(), program)
    loss(x)
    parameters = [p for p in program.parameters() if p.requires_grad]
    mean = gradients(Replicates(loss, x, parameters), range(500))
    exact, error = mean.mean(0), mean.std(0) / 500**0.5
    variance = {}
    for design in ("independent", "antithetic", "sobol"):
        drawn = gradients(Replicates(loss, x, parameters, design=DESIGNS[design](8)), range(10_000, 10_100))
        variance[design] = drawn.var(0).sum()
        spread = (drawn.var(0) / 100 + error.square()).sqrt() + 1e-9
        assert ((drawn.mean(0) - exact) / spread).abs().max() < 5
    assert torch.isclose(variance["independent"] * 8, mean.var(0).sum(), rtol=0.3)
    assert variance["sobol"] < variance["antithetic"] < 0.8 * variance["independent"]


@pytest.mark.slow
def test_designs_are_unbiased_for_discrete_draws():
    program = SigmoidBeliefNet(4, (2,))
    x = X[:3, :4]
    loss, exact = Loss(LeaveOneOut(elbo, 2), program), Loss(Exact(), program)
    for each in (loss, exact):
        each(x)
    parameters = list(program.decoders.parameters())
    log_p, log_q = enumerate_guide(pair_up(program.model, program.guide, (x,), {}), (x,), {})
    known = -(log_q.exp() * (log_p - log_q)).sum(0).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(known, parameters)])
    for design in ("antithetic", "sobol"):
        drawn = gradients(Replicates(loss, x, parameters, design=DESIGNS[design](2)), range(800))
        error = drawn.std(0) / 800**0.5
        assert ((drawn.mean(0) - expected) / error).abs().max() < 4.5


KINDS = {
    "normal": (Draw("normal", (3,), torch.float64, torch.device("cpu"), (1.0, 2.0)), 1.0, 2.0),
    "uniform": (Draw("uniform", (3,), torch.float64, torch.device("cpu"), (-1.0, 3.0)), 1.0, 4 / 12**0.5),
    "exponential": (Draw("exponential", (3,), torch.float64, torch.device("cpu"), (0.0, 0.5)), 0.5, 0.5),
}


@pytest.mark.parametrize("design", ["independent", "antithetic", "sobol"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_point_has_the_distribution_of_the_draw(kind, design):
    draw, mean, deviation = KINDS[kind]
    (noise,) = DESIGNS[design](4).noise([draw], range(500))  # (2000, 3)
    assert noise.shape == (2000, 3)
    for point in noise.unflatten(0, (-1, 4)).unbind(1):  # 500 independent draws of each point
        assert abs(point.mean() - mean) < 5 * deviation / 800**0.5
        assert abs(point.std() / deviation - 1) < 0.15


def test_the_first_point_is_the_seeds_own_draw():
    draw = KINDS["normal"][0]
    (noise,) = Antithetic(2).noise([draw], [7])
    torch.manual_seed(7)
    assert torch.equal(noise[0], draw()) and torch.allclose(noise.mean(0), torch.ones(3))


def test_single_precision_rounds_no_draw_to_the_end_of_its_support(monkeypatch):
    draws = [Draw(kind, (2,), torch.float32, torch.device("cpu")) for kind in ("uniform", "exponential")]
    extremes = [torch.tensor([0.0, 1e-12]), torch.tensor([20.0, 0.0])]
    monkeypatch.setattr(Draw, "__call__", lambda draw: extremes[draws.index(draw)])
    uniform, exponential = Antithetic(2).noise(draws, [0])
    assert (uniform[1] < 1).all()
    assert (exponential[1] > 0).all() and exponential[1].isfinite().all()
    assert abs(exponential[1, 0] / 2.0611536e-9 - 1) < 1e-5  # exp(-20) and half its square
    cube = torch.tensor([[0.0, 1 - 2.0**-30, 0.0, 1 - 2.0**-30]], dtype=torch.float64)
    monkeypatch.setattr(torch.quasirandom.SobolEngine, "draw", lambda *given, **options: cube)
    uniform, exponential = Sobol(1).noise(draws, [0])
    assert (uniform > 0).all() and (uniform < 1).all()
    assert (exponential > 0).all() and exponential.isfinite().all()


def test_what_a_design_refuses():
    draw = Draw("normal", (200, 200), torch.float64, torch.device("cpu"))
    with pytest.raises(ValueError, match="at most 21201 dimensions, and one gradient draws 40000 numbers"):
        Sobol(2).noise([draw], [0])
    with pytest.raises(ValueError, match="come in pairs: give an even number of them, got 3"):
        Antithetic(3)
    loss = Loss(Pathwise(), Branching())
    loss(X[:, :8])
    with pytest.raises(ValueError, match="sobol noise of 4 points needs a loss that is one graph"):
        list(Replicates(loss, X[:, :8], list(loss.parameters()), design=Sobol(4)).draw([0]))
