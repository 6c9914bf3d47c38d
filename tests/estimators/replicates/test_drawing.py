"""Replicates through graphs are those of the eager loop; their noise may be laid out otherwise."""

import pyro
import pytest
import torch
from pyro.distributions import Delta, Normal
from torch import nn

from pplvm.bounds import elbo
from pplvm.estimators.compare_gradients import compare_gradients
from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.designs import Independent
from pplvm.estimators.replicates.drawing import AGAIN, SINGLE, Drawing
from pplvm.estimators.replicates.vmapped import Replicates
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.graphs.programs import Branching, Small

X = (torch.rand(4, 40, generator=torch.Generator().manual_seed(2)) < 0.4).double()


def compared(**options):
    torch.manual_seed(0)
    net = SigmoidBeliefNet(40, (20,))
    losses = {"score": ScoreFunction(elbo, 2), "rloo": LeaveOneOut(elbo, 2), "disarm": DisARM()}
    if options.get("noise", "independent") == "independent":
        losses["exact"] = Exact()
    losses = {name: Loss(objective, net) for name, objective in losses.items() if name != "exact"}
    return compare_gradients(losses, [X, X.flip(1)], replicates=60, reference_draws=40, kept=60, **options)


@pytest.fixture(scope="module")
def eager():
    torch.set_default_dtype(torch.float64)
    yield compared(compile="off")
    torch.set_default_dtype(torch.float32)


def test_a_comparison_through_graphs_is_the_eager_one(eager):
    ours = compared(compile="graph")
    for name in ("variance", "snr", "t2", "alignment", "correlation", "group_variance", "grad", "loss", "grad_norm"):
        assert abs(ours[name] - eager[name]).max() <= 1e-6 * abs(eager[name]).max(), name
    assert str(ours.drawn.sel(estimator="score").item()).endswith("gradients as factors")
    assert set(eager.drawn.values) == {"one by one"}
    timed = ours.milliseconds.notnull().sum("draw")
    assert (timed == [[SINGLE] * 3, [AGAIN] * 3]).all() and (ours.ms > 0).all()


def test_noise_of_ones_own_is_not_shared(eager):
    own = compared(own_noise=True)
    pair = {"estimator": "rloo", "other": "disarm"}
    assert abs(float(eager.correlation.sel(pair))) > 0.3 > abs(float(own.correlation.sel(pair)))
    assert own.attrs["noise"] == "independent, each estimator its own"


@pytest.mark.slow
def test_antithetic_noise_is_told_and_paid_for(eager):
    ours = compared(noise="antithetic", points=2)
    assert ours.attrs["noise"] == "antithetic, 2 points a gradient, common to all estimators"
    assert (ours.evaluations == 2 * eager.evaluations).all()
    ratio = (ours.variance / eager.variance).sel(estimator="rloo")
    assert 0.2 < float(ratio) < 0.8  # half, were the points independent
    assert "biased" not in set(ours.verdict.values)


def test_a_design_needs_a_graph():
    loss = Loss(Pathwise(), Branching())
    with pytest.raises(ValueError, match="^estimator path: sobol noise of 4 points needs a loss that is one graph"):
        compare_gradients({"path": loss}, [X[:, :8]], replicates=4, noise="sobol", points=4)


def test_auto_makes_a_graph_where_that_pays():
    loss, x = Loss(Pathwise(), Small()), X[:, :8]
    parameters = Parameters.of(loss.program, x)
    for replicates, is_chunked in ((SINGLE + 5, False), (10**7, True)):
        drawing = Drawing(loss, parameters, replicates)
        for start in range(0, SINGLE + 4, 4):
            drawing(x, range(start, start + 4))
        assert (drawing.plan != "one by one") is is_chunked


class Drifting(nn.Module):
    """Each run in training moves a buffer that the gradient depends on, as a codebook's averages are."""

    centre: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("centre", torch.zeros(3))

    def model(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            z = pyro.sample("z", Normal(x.new_zeros(x.shape), 1.0).to_event(1))
            pyro.sample("x", Normal(z * self.weight, 1.0).to_event(1), obs=x)

    def guide(self, x):
        self.centre.add_(1.0)
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("z", Normal(x * self.weight + self.centre, 1.0).to_event(1))


class OwnGenerator(Drifting):
    """Noise that no random state of torch tells of."""

    def guide(self, x):
        generator = self.__dict__.setdefault("generator", torch.Generator().manual_seed(3))
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("z", Delta(x * self.weight + torch.randn(x.shape, generator=generator), event_dim=1))


@pytest.mark.parametrize("tier", ["off", "graph"])
def test_replicates_of_a_program_that_moves_its_buffers_begin_where_it_stands(tier):
    program, x = Drifting(), torch.ones(4, 3)
    loss = Loss(Pathwise(), program)
    found = compare_gradients({"one": loss, "again": loss}, [x], replicates=40, reference_draws=20, compile=tier)
    assert not program.centre.any()
    still = Loss(Pathwise(), Still())
    expected = compare_gradients({"one": still, "again": still}, [x], replicates=40, reference_draws=20, compile="off")
    for name in ("variance", "snr"):
        assert abs(found[name] - expected[name]).max() <= 1e-6 * abs(expected[name]).max(), name


class Still(Drifting):
    """What a drifting program is in its first run."""

    def guide(self, x):
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("z", Normal(x * self.weight + 1.0, 1.0).to_event(1))


@pytest.mark.parametrize("options", [{"tier": "off"}, {"design": Independent(4)}])
def test_each_draw_begins_where_the_program_stands(options):
    program, x = Drifting(), torch.ones(4, 3)
    loss = Loss(Pathwise(), program)
    loss(x)
    before = program.centre.clone()
    replicates = Replicates(loss, x, list(program.parameters()), **options)
    first, again = (torch.cat([each.values for each in replicates.draw([0, 1])]) for _ in range(2))
    assert torch.equal(program.centre, before) and torch.equal(first, again)


def test_noise_of_a_generator_of_its_own_is_not_taken_for_none():
    losses = {"pathwise": Loss(Pathwise(), OwnGenerator())}
    found = compare_gradients(losses, [torch.ones(4, 3)], replicates=60, reference_draws=5, compile="off")
    assert len(set(found.loss.values.flatten().tolist())) == 60
