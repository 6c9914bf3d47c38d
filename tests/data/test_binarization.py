"""Static and dynamic binarization, and what is refused."""

import numpy as np
import pytest
import torch

from pplvm.data.arrays import from_rows
from pplvm.data.binarization import binarize
from pplvm.data.image_data import ImageData

GREY = ImageData(torch.tensor([[0, 127, 128, 255]], dtype=torch.uint8), "grey", 256, torch.tensor([3]))


def test_static_is_one_above_the_threshold():
    static = binarize(GREY, "static")
    assert static[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert (static.spec.levels, static.spec.binarization) == (2, "static")
    assert binarize(GREY, "static", threshold=0.6)[0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert binarize(GREY, "static", threshold=0.0)[0].tolist() == [0.0, 1.0, 1.0, 1.0]


def test_a_half_is_not_above_a_half():
    assert binarize(ImageData(torch.tensor([[0.5, 0.75]]), "floats", None), "static")[0].tolist() == [
        0.0,
        1.0,
    ]


def test_dynamic_keeps_the_grey_values_and_promises_two_levels():
    dynamic = binarize(GREY, "dynamic")
    assert dynamic.images is GREY.images
    assert (dynamic.spec.levels, dynamic.spec.binarization) == (2, "dynamic")
    assert {dynamic.rows(torch.tensor([0]), epoch)[0, 0].item() for epoch in range(50)} == {0.0}
    assert {dynamic.rows(torch.tensor([0]), epoch)[0, 1].item() for epoch in range(50)} == {0.0, 1.0}


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_labels_and_name_stay(how):
    assert binarize(GREY, how).labels.tolist() == [3]
    assert binarize(GREY, how).spec.name == "grey"


@pytest.mark.parametrize("how", ["none", "static", "dynamic"])
def test_binary_data_pass_unchanged(how):
    ink = ImageData(torch.tensor([[0, 1]], dtype=torch.uint8), "ink", 2)
    assert binarize(ink, how) is ink
    assert ink.spec.binarization == "given"


def test_none_leaves_grey_data_alone():
    assert binarize(GREY, "none") is GREY


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_values_outside_the_unit_interval_are_refused(how):
    real = ImageData(torch.tensor([[-2.0, 3.0]]), "waves", None)
    with pytest.raises(ValueError, match="'waves' has values from -2 to 3 .* scale them"):
        binarize(real, how)


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_integers_are_taken_for_grey_levels_where_they_can_be(how):
    counts = from_rows(np.array([[0, 100, 200], [255, 7, 3]]), "counts", "all")
    assert counts.spec.levels is None and counts[0].tolist() == [0.0, 100.0, 200.0]
    pixels = binarize(from_rows(np.array([[0, 100, 200], [255, 7, 3]], np.uint8), "counts", "all"), how)
    assert torch.equal(binarize(counts, how).rows(torch.arange(2), 3), pixels.rows(torch.arange(2), 3))
    more = from_rows(np.array([[0, 256]]), "counts", "all")
    with pytest.raises(ValueError, match="0 to 256 that are not grey levels .*: keep them as they are"):
        binarize(more, how)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="'stochastic': use none, static or dynamic"):
        binarize(GREY, "stochastic")


def test_small_integers_are_not_taken_for_nearly_black():
    digits = np.array([[0, 16], [9, 8]])
    for data in (from_rows(digits, "mine", "all"), torch.from_numpy(digits), torch.from_numpy(digits.astype(np.uint8))):
        for how in ("static", "dynamic"):
            with pytest.raises(ValueError, match="from 0 to 16, and nothing says .*: give --levels 17 if 16 is, "):
                binarize(data, how)
    told = binarize(from_rows(digits, "mine", "all", levels=17), "static")
    assert told.rows(torch.arange(2)).tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_integers_0_and_1_are_binary(how):
    ink = torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8)
    found = binarize(ink, how)
    assert torch.equal(found.rows(torch.arange(2)), ink.float()) and found.spec.binarization == "given"


@pytest.mark.parametrize(("array", "value"), [([[0, 100], [7, 3]], 0), ([[255, 200], [140, 230]], 1)])
def test_a_threshold_that_leaves_one_value_is_refused(array, value):
    data = from_rows(np.array(array, np.uint8), "mine", "all", levels=256)
    with pytest.raises(ValueError, match=f"so that all are {value} by the threshold 0.5: binarize dynamically"):
        binarize(data, "static")
    assert binarize(data, "dynamic").spec.levels == 2 and binarize(data, "static", threshold=0.7 - 0.5 * (1 - value))


def test_static_data_are_the_stored_ones_until_they_are_read():
    grey = np.random.default_rng(0).integers(0, 256, (30, 4), dtype=np.uint8)
    for array in (grey, grey.astype(np.int64), grey / 255, (grey / 255).astype(np.float32)):
        data = from_rows(array, "mine", "train")
        static = binarize(data, "static")
        assert static.stored is data.stored
        expected = (data.images.double() / (255 if data.images.max() > 1 else 1) > 0.5).float()
        assert torch.equal(static.rows(torch.arange(24)), expected)
        assert torch.equal(torch.cat(list(static.parts())), expected.to(torch.uint8))
        torch.testing.assert_close(static.mean(), expected.mean(0))
