"""Minibatches: every datum once, an order that (seed, epoch) decides, draws that no order decides."""

import pytest
import torch

from pplvm.data.batches import batches, fixed_batch
from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs
from pplvm.data.image_data import ImageData

DATA = ImageData(torch.arange(23).to(torch.uint8).reshape(23, 1), "count", 256)


def numbers(epoch_batches):
    return [(x.flatten() * 255).round().int().tolist() for x in epoch_batches]


def test_every_datum_comes_once_in_float32():
    got = list(batches(DATA, 5))
    assert [tuple(x.shape) for x in got] == [(5, 1)] * 4 + [(3, 1)]
    assert {x.dtype for x in got} == {torch.float32}
    assert sorted(sum(numbers(got), [])) == list(range(23))


def test_drop_last_leaves_out_the_short_batch_only():
    assert [len(x) for x in batches(DATA, 5, drop_last=True)] == [5] * 4
    assert [len(x) for x in batches(DATA, 23, drop_last=True)] == [23]


def test_the_order_is_of_seed_and_epoch():
    first = numbers(batches(DATA, 5, seed=1, epoch=2))
    assert first == numbers(batches(DATA, 5, seed=1, epoch=2))
    assert first != numbers(batches(DATA, 5, seed=1, epoch=3))
    assert first != numbers(batches(DATA, 5, seed=2, epoch=2))
    assert sum(numbers(batches(DATA, 5, shuffle=False)), []) == list(range(23))


def test_dynamic_draws_do_not_depend_on_order_or_size():
    marked = torch.cat([torch.arange(23)[:, None] * 11, torch.full((23, 40), 127)], 1).to(torch.uint8)
    dynamic = binarize(ImageData(marked, "marked", 256), "dynamic")
    in_order = torch.cat(list(batches(dynamic, 23, epoch=4, shuffle=False)))
    for size, seed in ((5, 0), (7, 9)):
        shuffled = torch.cat(list(batches(dynamic, size, seed=seed, epoch=4)))
        where = torch.tensor(sum(numbers(batches(DATA, size, seed=seed, epoch=4)), []))
        assert torch.equal(shuffled, in_order[where])
    assert not torch.equal(in_order, torch.cat(list(batches(dynamic, 23, epoch=5, shuffle=False))))


def test_batches_go_to_the_device():
    assert next(batches(DATA, 5, device="meta")).device.type == "meta"


def test_fixed_batches_are_those_of_epoch_zero():
    whole = numbers(batches(DATA, 5, seed=3))
    assert [numbers([fixed_batch(DATA, 5, seed=3, number=n)])[0] for n in range(4)] == whole[:4]


@pytest.mark.parametrize("number", [-1, 4])
def test_a_minibatch_that_is_not_there_is_refused(number):
    with pytest.raises(ValueError, match=f"no minibatch {number} of 5 in data set 'count': .* 0 to 3"):
        fixed_batch(DATA, 5, number=number)


@pytest.mark.parametrize("make", [batches, fixed_batch])
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "the batch size is 0: it must be at least 1"),
        (-3, "the batch size is -3"),
        (24, "the batch size 24 is larger than data set 'count', which has 23 data: use at most 23"),
    ],
)
def test_bad_sizes_are_refused_at_once(make, size, words):
    with pytest.raises(ValueError, match=words):
        make(DATA, size)


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_rows_of_a_tensor_are_drawn_like_a_data_set(dtype):
    rows = torch.arange(23).to(dtype).unsqueeze(1)
    for drawn in (batches(rows, 5, seed=1), batches(rows, 5, seed=1, shuffle=False)):
        found = list(drawn)
        assert [len(x) for x in found] == [5, 5, 5, 5, 3] and found[0].dtype is torch.float32
        assert sorted(torch.cat(found).flatten().tolist()) == list(range(23))
    assert torch.equal(fixed_batch(rows, 5, seed=1), next(batches(rows, 5, seed=1)))
    assert torch.equal(next(Epochs(rows, 5, seed=1)), next(batches(rows, 5, seed=1)))


def test_data_of_another_kind_are_refused_at_once():
    for data, kind in (([1.0, 2.0], "list"), (torch.tensor(1.0), "a tensor of no dimension")):
        for ask in (lambda d: batches(d, 1), lambda d: fixed_batch(d, 1), lambda d: Epochs(d, 1)):
            with pytest.raises(TypeError, match=rf"a data set of pplvm.data or a tensor \(N, \*shape\), not {kind}"):
                ask(data)
    with pytest.raises(ValueError, match="larger than data set 'a tensor', which has 2 data"):
        batches(torch.zeros(2, 1), 3)
