"""One loop over a run: iterated or advanced step by step, with or without conditions, saved and taken up again."""

import itertools

import pytest
import torch
from torch import nn

from pplvm.data.epochs import Epochs
from pplvm.training.aggressive import Aggressive
from pplvm.training.run import Run
from pplvm.training.stepper import Stepper


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.parts = nn.ModuleDict({"model": nn.Linear(3, 2), "guide": nn.Embedding(4, 2)})

    def forward(self, x, y):
        return (self.parts["model"](x) - self.parts["guide"](y) + torch.randn(2)).square().mean()


X, Y = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64), torch.arange(10) % 4


def run_of(aggressive=False):
    loss = Noisy()
    optimizers = {name: torch.optim.Adam(part.parameters(), lr=0.1) for name, part in loss.parts.items()}
    fresh = Epochs((X.float(), Y), 4, seed=7)
    rule = Aggressive(fresh, most=3) if aggressive else Stepper.__call__
    parts = {"rule": rule, "fresh": fresh} if aggressive else {}
    return Run(Stepper(loss.float(), optimizers), Epochs((X.float(), Y), 4, seed=3), rule, parts)


@pytest.mark.parametrize("aggressive", [False, True])
def test_a_run_with_conditions_goes_on_as_if_it_had_not_stopped(aggressive):
    torch.manual_seed(0)
    whole = run_of(aggressive)
    losses = [float(whole.advance().loss) for _ in range(6)]
    torch.manual_seed(0)
    stopped, other = run_of(aggressive), run_of(aggressive)
    first = [float(step.loss) for step in itertools.islice(stopped, 3)]
    state = stopped.state_dict()
    torch.manual_seed(5)
    other.load_state_dict(state)
    assert first == losses[:3] and other.step == 3
    assert [float(other.advance().loss) for _ in range(3)] == losses[3:]
    x, y = other.x
    assert x.shape == (4, 3) and y.dtype == torch.int64 and other.step == 6


def test_it_ends_with_its_batches_and_counts_from_nought_where_numbers_are_lost():
    loss = Noisy()
    batches = [(X, Y), (X, Y), (X / 0, Y)]
    run = Run(Stepper(loss, torch.optim.SGD(loss.parameters(), lr=0.1)), batches[:2])
    loss.eval()
    assert len(list(run)) == run.step == 2 and loss.training
    run.batches = batches
    with pytest.raises(FloatingPointError, match="^step 4: row 0 of the batch holds NaN or infinity: "):
        list(run)
    assert run.step == 4
