"""Replicates through one graph are those of the eager loop by any path."""

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Normal
from torch import Tensor, nn

from pplvm.bounds import elbo, iwae
from pplvm.estimators.replicates.chunks import Factors
from pplvm.estimators.replicates.factors import factored
from pplvm.estimators.replicates.vmapped import Replicates
from pplvm.objectives.antithetic import DisARM
from pplvm.objectives.baselines import MovingAverage
from pplvm.objectives.biased import BiasedConcrete
from pplvm.objectives.biased_codes import BiasedCodeRotation, BiasedCodeStraightThrough
from pplvm.objectives.biased_gumbel_rao import BiasedGumbelRao
from pplvm.objectives.biased_reinmax import BiasedReinMax
from pplvm.objectives.control_variates import REBAR
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.graphs.programs import Branching, Gammas, Modes

X = (torch.rand(6, 40, generator=torch.Generator().manual_seed(2)) < 0.4).double()

LOSSES = {
    "pathwise": lambda: Loss(Pathwise(), VAE40()),
    "score": lambda: Loss(ScoreFunction(elbo, 1), SigmoidBeliefNet(40, (20,))),
    "moving average": lambda: Loss(ScoreFunction(elbo, 2, MovingAverage()), SigmoidBeliefNet(40, (20,))),
    "RLOO": lambda: Loss(LeaveOneOut(elbo, 3), SigmoidBeliefNet(40, (20, 3))),
    "VIMCO": lambda: Loss(LeaveOneOut(iwae, 3), SigmoidBeliefNet(40, (20,))),
    "DisARM": lambda: Loss(DisARM(), SigmoidBeliefNet(40, (20,))),
    "REBAR": lambda: Loss(REBAR(), SigmoidBeliefNet(40, (20,))),
    "Concrete": lambda: Loss(BiasedConcrete(), SigmoidBeliefNet(40, (20, 3))),
    "Gumbel-Rao": lambda: Loss(BiasedGumbelRao(0.5, 3), SigmoidBeliefNet(40, (20, 3))),
    "ReinMax": lambda: Loss(BiasedReinMax(2), codes()),
    "codes": lambda: Loss(BiasedCodeStraightThrough(2), codes()),
    "codes, rotated": lambda: Loss(BiasedCodeRotation(), codes()),
    "dropout": lambda: Loss(Pathwise(), Modes()),
    "tied": lambda: Loss(Pathwise(), Tied()),
}
PATHS = {
    "loop": {"chunk": 1},
    "vmap": {"by_factors": False, "chunk": 4},
    "factors": {"chunk": 4},
    "cache": {},
}


class Tied(nn.Module):
    """A weight that encodes, and decodes transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(80, 40) / 10)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x), dim=-1):
            z = pyro.sample("z", Normal(x.new_zeros(len(x), 80), 1.0).to_event(1))
            pyro.sample("x", Bernoulli(logits=z @ self.weight).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("z", Normal(nn.functional.linear(x, self.weight), 0.5).to_event(1))


def codes():
    from pplvm.programs.vq_vae import vq_vae

    return vq_vae(40, (1, 3), 5, 4, (20,), posterior="stochastic")  # which counts its codes in training


def VAE40():
    from pplvm.programs.vae import VAE

    return VAE(40, 2, (30,))


def gradients(replicates: Replicates, seeds) -> Tensor:
    """All of them, (N, P)."""
    rows = []
    for chunk in replicates.draw(list(seeds)):
        C = len(chunk.values)
        parts = []
        for parameter, each in zip(replicates.parameters, chunk.gradients, strict=True):
            dense = torch.zeros(C, *parameter.shape) if each is None else each.dense().values
            parts.append(dense.reshape(C, -1))
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows)


def of(name: str, dtype: torch.dtype = torch.float64, **options) -> Replicates:
    torch.manual_seed(0)
    loss = LOSSES[name]().to(dtype)
    x = (X[:, :8] if name == "dropout" else X).to(dtype)
    loss(x)
    if loss.control is not None:
        loss.control.eval()
    if name == "dropout":
        loss.program.encoder[1].eval()  # its running mean would be moved, so no replicates of one gradient
    return Replicates(loss, x, [p for p in loss.program.parameters() if p.requires_grad], **options)


@pytest.mark.parametrize(
    ("name", "path"),
    [*[(name, "factors") for name in LOSSES], *[("RLOO", path) for path in PATHS if path != "factors"],
     ("pathwise", "vmap"), ("dropout", "loop")],
)  # fmt: skip
def test_each_path_draws_the_eager_gradients(name, path):
    eager, ours = of(name, tier="off"), of(name, **PATHS[path])
    seeds = range(3, 12)
    expected, found = gradients(eager, seeds), gradients(ours, seeds)
    assert ours.plan.startswith("replayed one by one" if path == "loop" else f"{ours.size} at a time")
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
    values = [torch.cat([chunk.values for chunk in each.draw(list(seeds))]) for each in (eager, ours)]
    assert torch.allclose(*values, rtol=1e-12)


@pytest.mark.parametrize(("name", "path"), [("pathwise", "factors"), ("RLOO", "vmap"), ("Concrete", "cache")])
def test_in_single_precision_to_rounding(name, path):
    eager, ours = of(name, torch.float32, tier="off"), of(name, torch.float32, **PATHS[path])
    expected, found = gradients(eager, range(9)), gradients(ours, range(9))
    assert ours.plan.startswith(f"{ours.size} at a time")
    assert found.dtype is torch.float32 and (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_chunks_that_are_not_full_take_few_graphs():
    ours = of("RLOO", chunk=16)
    for count in (16, 15, 9, 8, 7, 5, 4, 21):
        assert len(gradients(ours, range(count))) == count
    assert sorted(ours._runners) == [4, 8, 16]
    assert torch.allclose(gradients(ours, range(12))[5:10], gradients(ours, range(5, 10)), rtol=1e-12)


def test_what_all_replicates_share_is_there_once():
    ours = of("pathwise", chunk=4)
    (chunk,) = ours.draw(range(4))
    names = [name for name, p in ours.loss.program.named_parameters() if p.requires_grad]
    inputs = {name: g.inputs for name, g in zip(names, chunk.gradients, strict=True) if isinstance(g, Factors)}
    assert {name: len(each) for name, each in inputs.items()} == {
        "encoder.layers.0.weight": 1,
        "decoder.layers.2.weight": 4,
    }
    assert torch.equal(inputs["encoder.layers.0.weight"][0], X)


def test_the_rule_of_the_factors_is_told():
    assert of("score", chunk=4).plan == "4 at a time, 2 of 5 gradients as factors"  # 6 (20 + 40) < 0.5 * 20 * 40
    assert of("VIMCO", chunk=4).plan == "4 at a time, 1 of 5 gradients as factors"  # the decoder has 18 rows
    assert of("tied", chunk=4).plan == "4 at a time, 1 of 1 gradients as factors"  # 12 (80 + 40) < 0.5 * 80 * 40
    assert of("pathwise", chunk=4, by_factors=False).plan == "4 at a time"


def test_one_noise_for_two_is_seen():
    """The power of the tests above: a graph whose second draw is its first."""
    loss = Loss(LeaveOneOut(elbo, 2), SigmoidBeliefNet(40, (20, 20)))
    loss(X)
    parameters = list(loss.program.parameters())
    ours = Replicates(loss, X, parameters, chunk=4)
    first, second = (node for node in ours._module.graph.nodes if str(node.target).startswith("noise"))
    second.replace_all_uses_with(first)
    ours._module.recompile()
    ours._runners[4] = ours._vmapped(4)
    expected, found = gradients(Replicates(loss, X, parameters, tier="off"), range(8)), gradients(ours, range(8))
    assert (found - expected).abs().max() > 1e-2 * expected.abs().max()


def test_a_chunk_is_held_against_the_graph_alone(monkeypatch):
    """A pass that mistakes a product is seen, and drawn around."""

    def mistaken(graph):
        graph, chosen = factored(graph)
        end = next(node for node in graph.graph.nodes if node.op == "output")
        last = next(i for i, output in reversed(list(enumerate(end.args[0]))) if output.meta["val"].shape == (6, 40))
        with graph.graph.inserting_before(end):
            wrong = graph.graph.call_function(torch.ops.aten.abs.default, (end.args[0][last],))
        wrong.meta = end.args[0][last].meta
        end.args = ([*end.args[0][:last], wrong, *end.args[0][last + 1 :]],)
        graph.recompile()
        return graph, chosen

    monkeypatch.setattr("pplvm.estimators.replicates.vmapped.factored", mistaken)
    ours = of("score", chunk=4)
    assert ours.plan.startswith("replayed one by one, as vmap is off by") and ours.size == 1
    assert torch.allclose(gradients(ours, range(3)), gradients(of("score", tier="off"), range(3)), rtol=1e-10)


def test_an_operation_that_vmap_does_not_know_is_drawn_around(monkeypatch):
    def unknown(*args, **kwargs):
        raise RuntimeError("Batching rule not implemented for aten::new_op")

    monkeypatch.setattr(torch.func, "vmap", unknown)
    ours = of("score", chunk=4)
    assert ours.plan == "replayed one by one, as vmap fails: Batching rule not implemented for aten::new_op"
    assert torch.allclose(gradients(ours, range(2)), gradients(of("score", tier="off"), range(2)), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_compiled_replicates_are_the_eager_ones(chunk):
    eager, ours = of("RLOO", tier="off"), of("RLOO", tier="inductor", chunk=chunk)
    expected, found = gradients(eager, range(6)), gradients(ours, range(6))
    assert ours.plan.startswith("compiled, ")
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize(
    ("program", "told"),
    [(Branching, "as it is no one graph: Python decides"), (Gammas, "as not all that it draws or changes is an input"),
     (Modes, "as not all that it draws or changes is an input")],
)  # fmt: skip
def test_what_cannot_be_vmapped_is_drawn_one_by_one(program, told):
    loss = Loss(Pathwise(), program())
    x = X[:, :8]
    loss(x)
    parameters = list(loss.program.parameters())
    ours = Replicates(loss, x, parameters)
    assert told in ours.plan
    if program is not Modes:
        expected = gradients(Replicates(loss, x, parameters, tier="off"), range(3))
        assert torch.equal(gradients(ours, range(3)), expected)


def test_memory_is_that_of_a_chunk():
    """A chunk's tensors, as counted from the graph, stay in the budget."""
    loss = Loss(Pathwise(), VAE40())
    loss(X)
    ours = Replicates(loss, X, list(loss.parameters()))
    sizes = [len(chunk.values) for chunk in ours.draw(range(ours.size + 3))]
    assert sizes == [ours.size, 3] and 50 < ours.size < 5000


def test_a_graph_that_cannot_be_run_leaves_the_loop(monkeypatch):
    def cannot(inputs):
        raise RuntimeError("view size is not compatible")

    monkeypatch.setattr("pplvm.graphs.gradient_graph.replay", lambda graph, inputs: cannot)
    ours = of("RLOO")
    assert ours.plan == "one by one, as it is no one graph: its graph cannot be replayed: view size is not compatible"
    assert torch.equal(gradients(ours, range(2)), gradients(of("RLOO", tier="off"), range(2)))
