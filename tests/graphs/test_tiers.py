"""Every program under every objective computes the same in all tiers, from one seed, over ten steps."""

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn

from pplvm.bounds import elbo, iwae
from pplvm.graphs.backends import replay
from pplvm.graphs.compiled import Tier
from pplvm.objectives.baselines import LearnedBaseline
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import AnalyticKL, Pathwise
from pplvm.objectives.pyro_objective import PyroObjective
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.objectives.tempered import Beta, FreeBits, Warmup
from pplvm.programs.mixture import MixtureOfGaussians
from pplvm.programs.ppca import ProbabilisticPCA
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from tests.graphs.agreement import trained
from tests.graphs.programs import (
    Codebook,
    DiagonalRegression,
    Flow,
    Gammas,
    Minibatch,
    Mixed,
    Modes,
    OneHot,
    Regression,
    Small,
    Tempered,
)
from tests.objectives.test_contract import EVERY, objective_and_program

X = (torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.4).float()

OF_PYRO = {
    "Trace_ELBO": lambda: Loss(Trace_ELBO(), Small()),
    "TraceMeanField_ELBO": lambda: Loss(TraceMeanField_ELBO(), Small()),
    "TraceGraph_ELBO": lambda: Loss(PyroObjective(TraceGraph_ELBO()), SigmoidBeliefNet(8, (2,))),
    "RenyiELBO": lambda: Loss(
        PyroObjective(RenyiELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1), True), Small()
    ),
}
FEATURES = {
    "batch norm, dropout": lambda: Loss(Pathwise(), Modes()),
    "codebook": lambda: Loss(Pathwise(), Codebook()),
    "temperatures": lambda: Loss(Pathwise(), Tempered()),
    "flow": lambda: Loss(Pathwise(), Flow()),
    "gamma": lambda: Loss(Pathwise(iwae, 3), Gammas()),
    "draws of several kinds": lambda: Loss(Pathwise(), Mixed()),
    "one-hot": lambda: Loss(LeaveOneOut(iwae, 3), OneHot()),
    "minibatch in the plate": lambda: Loss(Pathwise(), Minibatch()),
    "AutoNormal": lambda: Loss(Trace_ELBO(), Regression()),
    "AutoDiagonalNormal": lambda: Loss(Trace_ELBO(), DiagonalRegression()),
    "warm-up, beta, baseline": lambda: Loss(
        Warmup(Beta(ScoreFunction(elbo, 3, LearnedBaseline(8)), 0.5), 20), SigmoidBeliefNet(8, (2,))
    ),
    "free bits": lambda: Loss(FreeBits(AnalyticKL(), 0.2), Small()),
    "gaussian likelihood": lambda: Loss(Pathwise(), Small(likelihood="gaussian")),
    "mixture": lambda: Loss(LeaveOneOut(elbo, 3), MixtureOfGaussians(8)),
    "PPCA": lambda: Loss(Pathwise(), ProbabilisticPCA(8)),
    **OF_PYRO,
}
CATALOG = {f"{kind}: {name}": (lambda k=kind, n=name: Loss(*objective_and_program(k, n))) for kind, name in EVERY}
CHANGING = {
    **FEATURES,
    **{name: CATALOG[name] for name in ("VAE: pathwise iwae", "belief net: RWS", "belief net: score, learned")},
}


def batch(number):
    """One batch is smaller, and the data are not all alike."""
    x = X.to(torch.get_default_dtype()).roll(number, 0)
    return x[:4] if number == 7 else x


def before(number, loss):
    """The mode changes for a while, so do a number on the program and a buffer of it."""
    loss.train(number not in (4, 5))
    if isinstance(loss.program, Tempered):
        loss.program.temperature = 1.0 if number < 8 else 0.5
        loss.program.warmth.fill_(1 - 0.05 * number)


def hold(build, tier: Tier, changes: bool = True) -> None:
    """Ten steps in a tier against the eager ones."""
    around = (batch, before) if changes else (lambda number: X.to(torch.get_default_dtype()),)
    eager, ours = (trained(build, each, *around) for each in ("off", tier))
    assert ours.step.tier_now == tier
    value, gradient, learned = ours.differs_from(eager)
    assert value < 1e-6 and gradient < 1e-5 and learned < 1e-5
    assert torch.equal(ours.random, eager.random)


@pytest.mark.parametrize("name", CATALOG)
def test_replay_is_the_eager_loss(name):
    hold(CATALOG[name], "graph", changes=False)


@pytest.mark.parametrize("name", CHANGING)
def test_replay_is_the_eager_loss_whatever_changes(name):
    hold(CHANGING[name], "graph")


def test_inductor_is_the_eager_loss():
    hold(FEATURES["batch norm, dropout"], "inductor", changes=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEATURES)
def test_inductor_is_the_eager_loss_whatever_changes(name):
    hold(FEATURES[name], "inductor")


@pytest.fixture
def single():
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.usefixtures("single")
def test_replay_in_single_precision_and_under_autocast(cast):
    build = lambda: Loss(Pathwise(), Small())
    eager, ours = (trained(build, tier, batch, before, cast=cast) for tier in ("off", "graph"))
    assert ours.step.tier_now == "graph"
    assert max(ours.differs_from(eager)) == 0


@pytest.mark.parametrize("where", ["in the loss", "in the data"])
@pytest.mark.parametrize("tier", ["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def test_weights_of_convolutions_are_moved_by_their_own_gradients(tier, where):
    """Read with channels last, a convolution gives gradients in that order, and a fused optimizer does not look."""

    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x):
            return self.out(self.layer(x if x.dim() == 4 else x.mT.unflatten(-1, (6, 6))).tanh()).square().mean()

    def images(number):
        x = torch.randn(5, 36, 3, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        return x.mT.unflatten(-1, (6, 6)) if where == "in the data" else x

    eager, ours = (trained(Convolution, each, images) for each in ("off", tier))
    assert ours.step.tier_now == tier
    assert max(ours.differs_from(eager)) < 1e-10
    assert all(p.grad.stride() == p.stride() for p in ours.step.parameters())


def test_a_graph_that_uses_one_noise_twice_fails():
    """The power of the tests above."""

    def reuse(step):
        for graph in (run.graph for run in step._runs.values()):
            nodes = graph.traced.graph.graph.nodes
            first, second = (node for node in nodes if node.op == "placeholder" and node.name.startswith("noise"))
            second.replace_all_uses_with(first)
            graph.traced.graph.recompile()
            graph.runner = replay(graph.traced.graph, graph.inputs([batch(0)]))

    build = lambda: Loss(LeaveOneOut(elbo, 2), SigmoidBeliefNet(8, (3, 3)))
    eager = trained(build, "off", lambda number: X.double())
    same = trained(build, "graph", lambda number: X.double())
    mutant = trained(build, "graph", lambda number: X.double(), change=reuse)
    assert max(same.differs_from(eager)) < 1e-10
    assert max(mutant.differs_from(eager)) > 1e-2


def test_bound_of_many_particles():
    eager, ours = (trained(lambda: Loss(Pathwise(iwae, 50), VAE(8, 2, (5,))), tier, batch) for tier in ("off", "graph"))
    assert max(ours.differs_from(eager)) < 1e-10
