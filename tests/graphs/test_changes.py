"""What a user changes between two steps, and what a loss does beside computing: as without a graph."""

import copy
import pickle
import warnings

import pyro
import pytest
import torch
from torch import Tensor, nn

from pplvm.graphs.compiled import compiled
from pplvm.objectives.objective import Loss
from pplvm.objectives.pathwise import Pathwise
from tests.graphs.programs import Small

BATCHES = [
    torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(number)) for number in range(5)
]

BETA = 1.0


def beta():
    return BETA


class Settings:
    beta = 1.0


class Plain(nn.Module):
    """A loss of two layers."""

    current: Tensor
    previous: Tensor

    warmth = 1.0

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 4)
        self.register_buffer("current", torch.zeros(3))
        self.register_buffer("previous", torch.zeros(3))
        self.list, self.tensor = [1.0], torch.ones(())
        beta = 1.0

        def set_beta(value):
            nonlocal beta
            beta = value

        self.closure, self.set_beta = lambda: beta, set_beta

    def forward(self, x):
        return (self.last(self.hidden(x).tanh()) - x).square().mean()

    def hidden(self, x):
        return self.first(x)


class Global(Plain):
    def hidden(self, x):
        return beta() * self.first(x)


class OfClass(Plain):
    def hidden(self, x):
        return self.warmth * Settings.beta * self.first(x)


class OfList(Plain):
    def hidden(self, x):
        return self.list[0] * self.first(x)


class OfTensor(Plain):
    def hidden(self, x):
        return 2 * self.tensor * self.first(x)


class Closure(Plain):
    def hidden(self, x):
        return self.closure() * self.first(x)


class Tied(Plain):
    def __init__(self):
        super().__init__()
        self.second = nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def hidden(self, x):
        return self.first(x) + 2 * self.second(x)


class Remembering(Plain):
    """What was becomes what is before the last: one buffer takes another's place."""

    def hidden(self, x):
        hidden = self.first(x) + self.previous
        self.previous = self.current
        self.current = hidden.detach().mean(0)
        return hidden


class Writing(Plain):
    def hidden(self, x):
        return self.first(x.mul_(0.5))


class Masked(Plain):
    """As many rows as the data say."""

    def hidden(self, x):
        return self.first(x)[x[:, 0] > 0.5]

    def forward(self, x):
        hidden = self.hidden(x)
        return hidden.sum() / len(hidden)


class Turning(Plain):
    """A buffer that becomes one of another type."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.tensor(0))

    def hidden(self, x):
        self.count = 0.5 * self.count + 1
        return self.first(x) * self.count


class Sharing(Plain):
    """A buffer that leaves the memory that another shows."""

    view: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("view", self.current[:2])

    def hidden(self, x):
        self.current = self.current + 1
        return self.first(x) + self.view.sum() + self.current


class OwnGenerator(Plain):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(4)

    def hidden(self, x):
        return self.first(x) + torch.randn(6, 3, generator=self.generator)


def _layer(loss, number):
    if number == 2:
        loss.first = nn.Linear(4, 3)


def _untie(loss, number):
    if number == 2:
        loss.second.weight = nn.Parameter(torch.ones(3, 4))


def _hook(loss, number):
    if number == 2:
        loss.first.register_forward_hook(lambda module, args, result: 2 * result)


def _tensor_hook(loss, number):
    if number == 2:
        loss.first.weight.register_hook(lambda gradient: 2 * gradient)


def _list(loss, number):
    if number == 1:
        loss.list = [0.5]
    elif number > 1:
        loss.list[0] = 1 / number


def _set(where, name):
    return lambda loss, number: setattr(where(loss), name, 1 - 0.1 * number)


CHANGES = {
    "global": (Global, lambda loss, number: globals().update(BETA=1 - 0.1 * number)),
    "class attribute": (OfClass, _set(type, "warmth")),
    "class of settings": (OfClass, _set(lambda loss: Settings, "beta")),
    "attribute that hides one of the class": (OfClass, lambda loss, n: n and setattr(loss, "warmth", 1 / n)),
    "list in place of a list": (OfList, _list),
    "tensor in place": (OfTensor, lambda loss, number: loss.tensor.fill_(1 - 0.1 * number)),
    "closure": (Closure, lambda loss, number: loss.set_beta(1 - 0.1 * number)),
    "layer": (Plain, _layer),
    "tie": (Tied, _untie),
    "hook of a module": (Plain, _hook),
    "hook of a parameter": (Plain, _tensor_hook),
    "buffers that move up": (Remembering, None),
    "buffer of another type": (Turning, None),
    "view of a buffer": (Sharing, None),
    "argument in place": (Writing, None),
    "rows by a mask": (Masked, None),
    "generator": (OwnGenerator, None),
}


def _steps(kind, change, tier, batches):
    """All that five steps leave behind."""
    torch.manual_seed(0)
    loss, found = kind(), []
    step = compiled(loss, tier)
    for number, x in enumerate(batches):
        x = x.clone()
        if change is not None:
            change(loss, number)
        loss.zero_grad()
        found += [step.backward(x), x, *[buffer.clone() for buffer in loss.buffers()]]
        found += [p.grad.clone() for p in loss.parameters() if p.grad is not None]
    return [*found, torch.get_rng_state()]


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_is_as_without_a_graph(name, monkeypatch):
    monkeypatch.setitem(globals(), "BETA", 1.0)
    monkeypatch.setattr(Settings, "beta", 1.0)
    monkeypatch.setattr(OfClass, "warmth", 1.0)
    kind, change = CHANGES[name]
    eager = _steps(kind, change, "off", BATCHES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = _steps(kind, change, "graph", BATCHES)
    assert len(eager) == len(ours) and all(map(torch.equal, ours, eager))


def test_strides_are_seen():
    class Flat(Plain):
        def hidden(self, x):
            return self.first(x) * x.reshape(-1)[0]

    batches = [BATCHES[0], BATCHES[1].t().contiguous().t(), BATCHES[2]]
    assert all(map(torch.equal, _steps(Flat, None, "graph", batches), _steps(Flat, None, "off", batches)))


def test_one_tensor_given_twice_is_one_graph_and_two_are_another():
    class Product(Plain):
        def forward(self, x, y):
            return super().forward(x * y)

    loss = Product()
    step = compiled(loss, "graph")
    for args in (BATCHES[:1] * 2, BATCHES[:2], BATCHES[:1] * 2):
        assert torch.equal(step(*args), loss(*args))


def test_a_copy_has_graphs_of_its_own():
    step = compiled(Plain(), "graph")
    step.backward(BATCHES[0])
    for own in (copy.deepcopy(step), pickle.loads(pickle.dumps(compiled(nn.PReLU(), "graph")))):
        assert not own._runs
    other = copy.deepcopy(step)
    with torch.no_grad():
        next(other.loss.parameters()).add_(1)
    assert torch.equal(other(BATCHES[0]), other.loss(BATCHES[0])) and other(BATCHES[0]) != step(BATCHES[0])


def test_gradients_are_added_in_place_as_torch_does():
    step = compiled(Plain(), "graph")
    step.backward(BATCHES[0])
    before = next(step.parameters()).grad
    step.backward(BATCHES[1])
    assert next(step.parameters()).grad is before


def test_handlers_of_a_user_are_obeyed():
    loss = Loss(Pathwise(), Small())
    step, x = compiled(loss, "graph"), torch.ones(6, 8)
    step.backward(x)
    found = []
    for run in (loss, step):
        torch.manual_seed(0)
        with pyro.poutine.scale(scale=3.0):
            found.append(run(x))
    assert torch.equal(*found)
