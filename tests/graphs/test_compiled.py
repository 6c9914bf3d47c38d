"""What is not one graph runs eagerly and says why, once; what changes is seen; the face is that of the loss."""

import os
import signal
import threading
import warnings

import pyro
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pplvm.bounds import elbo
from pplvm.graphs import compiled as compiled_module
from pplvm.graphs.compiled import MOST_GRAPHS, Compiled, compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut, ScoreFunction
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from tests.graphs.agreement import trained
from tests.graphs.programs import Branching, Codebook, Counting, Numpy, Recursive, Small, Tempered, Unseen

X = (torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.4).double()

REFUSED = {
    Branching: r"Pathwise of Branching is not one graph and runs eagerly: Python decides .* value .*programs.py line "
    r"\d+: if loc.mean\(\) > 0:",
    Numpy: r"Tensor.numpy\(\) hands its values to Python, programs.py line \d+: mean = torch.from_numpy",
    Unseen: "on other data the graph is off by .*a number that left torch",
    Counting: "program.calls changes from call to call and is no buffer: register it as one",
    Recursive: "Python decides .* at or after site 'z'",
}


@pytest.mark.parametrize("program", REFUSED)
def test_what_is_no_graph_falls_back_with_one_warning(program):
    rule = ScoreFunction if program is Recursive else Pathwise
    build = lambda: Loss(rule(), program())
    with pytest.warns(UserWarning, match=REFUSED[program]) as told:
        ours = trained(build, "graph", lambda number: X)
    assert len(told) == 1 and ours.step.tier_now == "off"
    if program is not Counting:  # which has counted the runs that showed that it counts
        assert max(ours.differs_from(trained(build, "off", lambda number: X))) == 0


def test_a_parameter_in_pyros_store_is_named():
    weight = nn.Parameter(torch.ones(2))

    class Hidden(Small):
        def posterior(self, loc, log_scale, x):
            return super().posterior(loc + weight, log_scale, x)

    with pytest.warns(UserWarning, match=r"parameter of shape \(2,\) belongs to no module: make it an attribute"):
        compiled(Loss(Pathwise(), Hidden()), "graph").backward(X)


def test_a_tensor_that_is_no_buffer_and_changes_is_named():
    class Remembering(Small):
        def __init__(self):
            super().__init__()
            self.seen = torch.zeros(2)

        def posterior(self, loc, log_scale, x):
            self.seen += 1
            return super().posterior(loc + self.seen, log_scale, x)

    with pytest.warns(UserWarning, match="program.seen changes from call to call and is no buffer: register it"):
        compiled(Loss(Pathwise(), Remembering()), "graph").backward(X)


def test_a_number_that_never_rests_costs_a_few_graphs_and_is_named(monkeypatch):
    assert MOST_GRAPHS == 16
    monkeypatch.setattr("pplvm.graphs.compiled.MOST_GRAPHS", 3)
    program = Tempered()
    step = compiled(Loss(Pathwise(), program), "graph")
    with pytest.warns(
        UserWarning,
        match="3 graphs, one for each value of program.temperature: make that a buffer .*; where it is new it runs",
    ) as told:
        for number in range(6):
            program.temperature = 1 + number
            step.backward(X)
    assert len(told) == 1 and len(step._runs) == 3


def test_shapes_modes_and_gradients_that_are_off_are_seen():
    program = Small()
    step = compiled(Loss(Pathwise(), program), "graph")
    for x in (X, X[:3], X):
        step.backward(x)
    assert len(step._runs) == 2
    program.decoder.requires_grad_(False)
    program.zero_grad()
    step.backward(X)
    assert program.decoder.last.weight.grad is None and program.encoder.last.weight.grad is not None
    with torch.no_grad():
        assert not step(X).requires_grad


def test_called_as_the_loss_it_has_its_gradients():
    loss = Loss(LeaveOneOut(elbo, 3), SigmoidBeliefNet(8, (2,)))
    step = compiled(loss, "graph")
    found = []
    for run in (loss, step):
        torch.manual_seed(0)
        found.append(torch.autograd.grad(3 * run(X), list(loss.parameters())))
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12)
    assert step.training and not step.eval().loss.training


def test_gradients_are_added_and_share_no_memory():
    loss = Loss(Pathwise(), Small())
    step = compiled(loss, "graph")
    torch.manual_seed(0)
    step.backward(X)
    once = [p.grad.clone() for p in loss.parameters()]
    torch.manual_seed(0)
    step.backward(X)
    for p, gradient in zip(loss.parameters(), once, strict=True):
        assert torch.allclose(p.grad, 2 * gradient)
    places = [p.grad.untyped_storage().data_ptr() for p in loss.parameters()]
    assert len(set(places)) == len(places)


def test_buffers_are_replaced_and_written_through():
    loss = Loss(Pathwise(), Codebook())
    step, eager = compiled(loss, "graph"), Loss(Pathwise(), Codebook())
    step.backward(X)
    eager(X)  # the first batch is checked
    eager.load_state_dict(loss.state_dict())
    loss.program.uses = torch.full((4,), 7.0)  # a new tensor under the old name
    eager.program.uses = torch.full((4,), 7.0)
    for run in (step.backward, eager):
        torch.manual_seed(0)
        run(X)
    assert torch.equal(loss.program.uses, eager.program.uses) and torch.equal(loss.program.book, eager.program.book)


def test_handlers_run_no_more():
    """Once traced, no site of the program is visited again."""
    step = compiled(Loss(Pathwise(), Small()), "graph")
    step.backward(X)
    with pyro.poutine.trace() as tracer:
        step.backward(X)
    assert not tracer.trace.nodes


def test_no_python_function_of_torch_sees_the_replay():
    """Nor do torch's function modes, but for the draws: what runs is the graph."""

    class Names(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    step = compiled(Loss(Pathwise(), Small()), "graph")
    step.backward(X)
    with Names():
        step.backward(X)
    assert "normal_" in names and "binary_cross_entropy_with_logits" in names and "log_prob" not in names


def _run(graph):
    return lambda inputs: graph(*inputs)


def test_auto_replays_and_compiles_where_that_pays(monkeypatch):
    asked = []
    monkeypatch.setattr(compiled_module, "inductor", lambda graph, inputs: asked.append(graph) or _run(graph))
    for steps, expected in ((50, "off"), (1000, "graph"), (10**9, "graph"), (None, "graph")):
        step = compiled(Loss(Pathwise(), Small()), "auto", steps)
        for _ in range(25):
            step.backward(X)
        assert step.tier_now == ("inductor" if steps == 10**9 else expected)
    assert len(asked) == 1


def test_a_compiler_that_fails_leaves_the_replay(monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("no C++ compiler\nat all")

    monkeypatch.setattr(compiled_module, "inductor", fail)
    step = compiled(Loss(Pathwise(), Small()), "inductor")
    with pytest.warns(UserWarning, match="Inductor cannot compile Pathwise of Small, .* replayed: no C.. compiler$"):
        step.backward(X)
    step.backward(X[:3])
    assert step.tier_now == "graph"


def test_a_signal_ends_the_compiler_and_is_handled(monkeypatch):
    def endless(graph, inputs):
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        threading.Event().wait(20)

    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    monkeypatch.setattr(compiled_module, "inductor", endless)
    step = Compiled(Loss(Pathwise(), Small()), "inductor", tell=lambda words: None)
    try:
        step.backward(X)
        step.backward(X)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] and step.tier_now == "graph"


def test_the_random_state_is_that_of_one_run():
    states = []
    for tier in ("off", "graph"):
        torch.manual_seed(0)
        loss = Loss(Pathwise(), Small())
        torch.manual_seed(5)
        compiled(loss, tier).backward(X)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_names_of_tiers():
    with pytest.raises(ValueError, match="tier must be one of 'auto', 'off', 'graph', 'inductor', got 'fast'"):
        compiled(Loss(Pathwise(), Small()), "fast")  # type: ignore[arg-type]


def test_nothing_is_told_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(Loss(Pathwise(), Small()), "graph").backward(X)


class Labelled(nn.Module):
    """Data, integer labels of which some are unknown, and a mask."""

    def __init__(self):
        super().__init__()
        self.codes, self.scale = nn.Embedding(3, 8), nn.Parameter(torch.ones(8))

    def forward(self, x, y, seen):
        known = torch.where(y >= 0, 1.0, 0.1)
        apart = torch.where(seen, x * self.scale - self.codes(y.clamp(min=0)), 0.0)
        return (known * apart.square().sum(-1)).mean() + 0.01 * torch.randn(()) * self.scale.sum()


def test_labels_and_masks_are_inputs_of_one_graph_as_data_are():
    loss = Labelled()
    step, seen = compiled(loss, "graph"), X > -1
    for number in range(3):  # other values each time, which a graph that keeps the first ones would miss
        y = (torch.arange(6) + number) % 4 - 1
        batch = (X.roll(number, 0), y, seen & (torch.arange(8) != number))
        found = []
        for face in (step, loss):
            loss.zero_grad()
            torch.manual_seed(number)
            value = face.backward(*batch) if face is step else face(*batch)
            value.backward() if face is loss else None
            found.append([value.detach(), *[p.grad for p in loss.parameters()]])
        assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(*found, strict=True))
    assert len(step._runs) == 1 and step.tier_now == "graph"
    step.backward(X, y.int(), seen)
    assert len(step._runs) == 2  # labels of another type
