"""Batches that are made of data: all rows in every epoch, in another order each, and refusals in words."""

import numpy as np
import pytest
import torch

from pplvm.data.binarization import binarize
from pplvm.data.image_data import ImageData
from pplvm.training.fit import fit
from pplvm.training.minibatches import minibatches


def test_every_epoch_has_all_rows_of_a_tensor_in_another_order():
    x = torch.arange(7.0)[:, None]
    batches, count = minibatches(x, epochs=2, batch_size=3)
    found = [batch.flatten() for batch in batches]
    assert count == len(found) == 6 and [len(batch) for batch in found] == [3, 3, 1, 3, 3, 1]
    first, second = torch.cat(found[:3]), torch.cat(found[3:])
    assert torch.equal(first.sort().values, x.flatten()) and torch.equal(second.sort().values, x.flatten())
    assert not torch.equal(first, second)


def test_the_order_is_that_of_torchs_random_state():
    x = torch.arange(50.0)
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        orders.append(torch.cat(list(minibatches(x, epochs=1)[0])))
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_data_sets_give_float32_and_draw_anew_in_every_epoch():
    grey = ImageData(torch.full((40, 3), 8, dtype=torch.uint8), "grey", levels=17)
    batches, count = minibatches(grey)
    (x,) = batches
    assert count == 1 and x.shape == (40, 3) and x.dtype == torch.float32 and float(x[0, 0]) == 0.5
    first, second = minibatches(binarize(grey, "dynamic"), epochs=2, batch_size=40)[0]
    assert {*first.unique().tolist(), *second.unique().tolist()} == {0.0, 1.0} and float(first.sum() - second.sum())


def test_rows_keep_their_conditions():
    x, y = torch.arange(7.0)[:, None], 10 * torch.arange(7)
    labelled = ImageData(x, "seven", levels=None, labels=y).conditioned("labels")
    for data in (torch.utils.data.TensorDataset(x, y), labelled, (x, y)):
        batches, count = minibatches(data, epochs=2, batch_size=3)
        found = list(batches)
        assert count == len(found) == 6 and all(torch.equal(10 * a.flatten().long(), b) for a, b in found)
        assert torch.equal(torch.cat([b for _, b in found[:3]]).sort().values, y)
    (alone,) = minibatches(torch.utils.data.TensorDataset(x), epochs=1)[0]
    assert isinstance(alone, torch.Tensor) and alone.shape == (7, 1)
    assert minibatches((x, x)) == ((x, x), 2)  # a tuple of batches, as before
    with pytest.raises(ValueError, match=r"\(7, 1\), \(5,\) as shapes: data and conditions need as many rows"):
        minibatches((x, y[:5]), batch_size=3)


def test_batches_of_their_own_are_gone_through_again():
    made = [torch.zeros(2), torch.ones(1)]
    assert minibatches(made) == (made, 2)
    loader = torch.utils.data.DataLoader(torch.arange(6.0), batch_size=4)
    batches, count = minibatches(loader, epochs=3)
    assert [len(x) for x in batches] == [4, 2, 4, 2, 4, 2] and count == 6
    once = (x for x in made)
    batches, count = minibatches(once, epochs=1)
    assert len(list(batches)) == 2 and count is None


REFUSED = {
    "an iterator of batches is used up after one epoch, and 3 are asked for": (iter([torch.ones(2)]), 3, None),
    "batch_size is of data, .* and list gives batches of its own: leave batch_size out": ([torch.ones(2)], None, 2),
    r"a tensor \(4, 2\) may be data or many batches: give batch_size=100": (torch.ones(4, 2), None, None),
    r"a tuple of tensors \(4, 2\), \(4,\) looks like data and their conditions, .*: give batch_size=100": (
        (torch.ones(4, 2), torch.ones(4)),
        2,
        None,
    ),
    "batch_size 5 is more than the 4 data: use at most 4": (torch.ones(4, 2), None, 5),
    "there are no data: 0 rows": (torch.ones(0, 2), 1, None),
    r"data are a ndarray: make them a tensor, torch.as_tensor\(": (np.ones((4, 2)), 1, None),
    "epochs must be a whole number of at least 1, got 0": (torch.ones(4, 2), 0, None),
    "batch_size must be a whole number of at least 1, got 2.0": (torch.ones(4, 2), None, 2.0),
}


def test_a_tuple_of_batches_is_no_data_with_conditions():
    x = torch.ones(4, 2)
    for data in (x.split(2), (x, x[:3]), (x,)):
        batches, count = minibatches(data, epochs=2)
        assert len(list(batches)) == count == 2 * len(data)


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_go_together_is_refused_in_words_before_a_step(words):
    data, epochs, batch_size = REFUSED[words]
    net = torch.nn.Linear(2, 1)
    with pytest.raises(ValueError, match=words):
        fit(net, data, torch.optim.SGD(net.parameters(), lr=0.1), epochs=epochs, batch_size=batch_size)


@pytest.mark.parametrize(
    "batch, cure",
    [
        ((torch.ones(4, 2), torch.ones(4)), r"as in fit\(loss, \(x for x, _ in loader\)"),
        (3 * [torch.ones(4, 2)], r"as in fit\(loss, \(x for x, _, _ in loader\)"),
        (("an image", 3), r"DataLoader\(data, batch_size=100\)"),
        (np.ones(2), "a batch is a ndarray, .*: torch.as_tensor makes one of an array"),
    ],
)
def test_a_batch_that_is_no_tensor_is_refused_with_what_makes_it_one(batch, cure):
    net = torch.nn.Linear(2, 1)
    with pytest.raises(TypeError, match=cure):
        fit(net, [batch], torch.optim.SGD(net.parameters(), lr=0.1)).run()


def test_fit_learns_from_data_without_a_loop_of_ones_own():
    class Squares(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = torch.nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return (x - self.mean).square().sum(-1).mean()

    x, loss = torch.randn(50, 2) + 3, Squares()
    values = fit(loss, x, torch.optim.SGD(loss.parameters(), lr=0.05), epochs=40, batch_size=10).run()
    assert values.shape == (200,) and values[-20:].mean() < values[:5].mean() / 3
    assert torch.allclose(loss.mean.detach(), x.mean(0), atol=0.3)
