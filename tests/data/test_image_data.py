"""Data in memory: what an item is, dynamic draws, and the mean."""

import copy

import numpy as np
import pytest
import torch

from pplvm.data.arrays import from_rows
from pplvm.data.binarization import binarize
from pplvm.data.image_data import ImageData


def grey(count=50):
    images = (torch.arange(count * 6) % 5).to(torch.uint8).reshape(count, 2, 3)
    return ImageData(images, "grey", 5)


def test_an_item_is_one_float_tensor_on_the_grid():
    data = grey()
    assert len(data) == data.spec.size == 50
    assert data[1].dtype == torch.float32
    assert torch.equal(data[1], torch.tensor([[0.25, 0.5, 0.75], [1.0, 0.0, 0.25]]))
    assert torch.equal(data[-1], data[49])
    assert data.spec.shape == (2, 3)
    with pytest.raises(IndexError):
        data[50]


def test_the_binarization_of_two_levels_is_given():
    assert ImageData(torch.ones(3, 2), "ink", 2).spec.binarization == "given"
    assert grey().spec.binarization == "none"


def test_the_mean_is_flat_and_of_the_values_not_of_the_storage():
    data = grey(7)
    expected = torch.stack([data[i] for i in range(7)]).mean(0).flatten()
    torch.testing.assert_close(data.mean(), expected)
    assert data.mean().shape == (6,)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_the_mean_is_the_same_wherever_it_is_asked_for(dtype):
    rows = torch.rand(50, 3).mul(200).to(dtype)
    with torch.device("meta"):  # as where a program is made only to be measured
        found = ImageData(rows, "mine", None).mean()
    assert found.dtype == torch.float32 and torch.equal(found, rows.double().mean(0).float())


def test_dynamic_draws_average_to_the_grey_values():
    data = grey(5)
    dynamic = binarize(data, "dynamic", seed=1)
    epochs = 4000
    draws = torch.stack([dynamic.rows(torch.arange(5), epoch) for epoch in range(epochs)]).double()
    grey_values = data.rows(torch.arange(5)).double()
    errors = (grey_values * (1 - grey_values) / epochs).sqrt()
    assert ((draws.mean(0) - grey_values).abs() <= 4.5 * errors).all()  # 0 and 1 exactly
    torch.testing.assert_close(dynamic.mean(), data.mean())


def test_dynamic_draws_change_with_epoch_and_seed_and_items_are_those_of_epoch_zero():
    dynamic = binarize(grey(), "dynamic", seed=1)
    index = torch.arange(50)
    first = dynamic.rows(index, 0)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(first, dynamic.rows(index, 0))
    assert not torch.equal(first, dynamic.rows(index, 1))
    assert not torch.equal(first, binarize(grey(), "dynamic", seed=2).rows(index, 0))
    assert torch.equal(torch.stack([dynamic[i] for i in range(50)]), first)
    assert torch.equal(dynamic[-1], first[-1])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_data_are_refused(shape):
    with pytest.raises(ValueError, match="data set 'nothing' is empty"):
        ImageData(torch.zeros(shape), "nothing", None)


def test_data_on_a_device_are_those_in_a_file(tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, (30, 2, 3), dtype=np.uint8) / 255)
    data = from_rows(np.load(tmp_path / "mine.npy", mmap_mode="r"), "mine", "train")
    assert data.to("cpu").stored is data.stored  # still in the file
    held = copy.copy(data)
    held.stored = data.stored.to("cpu")  # as `to` does for any other device
    assert held.description() == data.description() and torch.equal(held.mean(), data.mean())
    assert torch.equal(held.rows(torch.arange(24)), data.rows(torch.arange(24)))
    assert data.to("meta").images.device.type == "meta" and data.to("meta").description() == data.description()
