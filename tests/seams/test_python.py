"""The six programs in Python: the same losses eagerly and as a graph, and a run that stopped goes on bit by bit."""

import pytest
import torch

from pplvm.bounds import iwae
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData
from pplvm.graphs.compiled import compiled
from pplvm.objectives.exact import Exact
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from pplvm.objectives.score_function import LeaveOneOut
from pplvm.training.fit import fit
from pplvm.training.run import Run
from pplvm.training.stages import train_only
from pplvm.training.stepper import Stepper
from tests.seams import programs


def points(known=None):
    """Data (60, 4) of three classes, conditioned on labels of which the first `known` are known; alone if None."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    x = 2 * torch.eye(3, 4)[y] + torch.randn(60, 4, generator=generator)
    if known is None:
        return ImageData(x, "points", levels=None)
    y = torch.where(torch.arange(60) < known, y, -1)
    return ImageData(x, "points", levels=None, labels=y).conditioned("labels")


def pictures():
    bits = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.4
    return ImageData(bits.to(torch.uint8), "pictures", levels=2)


def second_stage():
    program = programs.TwoStages(4, learned_prior=True)
    train_only(program, "prior")
    return program


SUBJECTS = {
    "semi-supervised": (lambda: programs.SemiSupervised(4, 3), LeaveOneOut, lambda: points(20)),
    "labels without a guide": (lambda: programs.Labelled(4, 3), Exact, lambda: points(20)),
    "conditional": (lambda: programs.Conditional(4, 3), Pathwise, lambda: points(60)),
    "penalties": (lambda: programs.Penalized(4), programs.with_penalties, points),
    "first stage": (lambda: programs.TwoStages(4), Pathwise, points),
    "second stage": (second_stage, Pathwise, points),
    "convolutional": (lambda: programs.Convolutional((1, 8, 8)), lambda: Pathwise(iwae, 50), pictures),
    "without latents": (lambda: programs.WithoutLatents(4), Pathwise, points),
}


@pytest.fixture(autouse=True)
def single_precision(known_state):
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def made(subject):
    """Loss and data, from the same weights every time."""
    program, objective, data = SUBJECTS[subject]
    torch.manual_seed(0)
    return Loss(objective(), program()), data()


def learning(loss):
    return torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=0.01)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_fit_as_a_graph_has_the_losses_of_the_eager_one(subject):
    found = {}
    for tier in ("off", "graph"):
        loss, data = made(subject)
        torch.manual_seed(4)
        values = fit(loss, data, learning(loss), epochs=2, batch_size=20, compile=tier).run()
        found[tier] = values, loss.state_dict()
    (eager, weights), (graph, others) = found.values()
    assert len(eager) == 6 and torch.equal(eager, graph)
    assert all(torch.equal(others[name], value) for name, value in weights.items())


class Started(Run):
    """A run of a subject, from its beginning."""

    def __init__(self, subject, tier):
        self.loss, data = made(subject)
        torch.manual_seed(4)
        stepper = Stepper(compiled(self.loss, tier), learning(self.loss))
        super().__init__(stepper, Epochs(data, 20, seed=3))

    def take(self, count):
        return [float(self.advance().loss) for _ in range(count)]


SLOW = {"first stage", "labels without a guide", "without latents", "semi-supervised", "conditional", "penalties"}
"""Whose resumed graphs tell little more than the others, or are resumed by `test_command_line.py` too."""


@pytest.mark.parametrize(
    "subject, tier",
    [
        pytest.param(subject, tier, marks=[pytest.mark.slow] if tier == "graph" and subject in SLOW else [])
        for subject in SUBJECTS
        for tier in ("off", "graph")
    ],
)
def test_a_run_that_stopped_goes_on_bit_identically(subject, tier):
    whole = Started(subject, tier)
    losses = whole.take(7)
    stopped = Started(subject, tier)
    assert stopped.take(4) == losses[:4]
    state = stopped.state_dict()
    torch.manual_seed(99)
    resumed = Started(subject, tier)
    resumed.load_state_dict(state)
    assert resumed.take(3) == losses[4:]
    weights = whole.loss.state_dict()
    assert all(torch.equal(resumed.loss.state_dict()[name], value) for name, value in weights.items())
