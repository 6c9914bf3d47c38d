"""The line that says what was read."""

import numpy as np
import pytest
import torch

from pplvm.data.arrays import from_rows
from pplvm.data.binarization import binarize
from pplvm.data.image_data import ImageData
from pplvm.data.images import digits

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 4, 5), dtype=np.uint8)
GREY[0, 0, :2] = 0, 255
SMALL = GREY // 16


@pytest.mark.parametrize(
    ("array", "how", "words"),
    [
        (GREY, {}, "(4, 5), grey, 256 levels, stored as 0 to 255; binarization: none"),
        (GREY // 2 + 10, {}, "(4, 5), grey, 256 levels, stored as 0 to 255, found 10 to 137; binarization: none"),
        (SMALL, {"levels": 17}, "(4, 5), grey, 17 levels, stored as 0 to 16, found 0 to 15; binarization: none"),
        (GREY / 255, {}, "(4, 5), grey, 256 levels, stored as k/255; binarization: none"),
        (GREY[:, None].repeat(3, 1), {}, "(3, 4, 5), RGB, 256 levels, stored as 0 to 255; binarization: none"),
        (GREY[..., None].repeat(3, 3), {}, "(4, 5, 3), RGB, 256 levels, stored as 0 to 255; binarization: none"),
        (SMALL, {"values": "integer"}, "(4, 5), integers from 0 to 15; binarization: none"),
        (GREY * 3.0 - 1.5, {}, "(4, 5), real values from -1.5 to 763.5; binarization: none"),
    ],
)
def test_values_are_told_as_they_are_stored(array, how, words):
    data = from_rows(array, "mine.npy", "all", **how)
    assert data.description("train") == f"mine.npy, train: 20 of shape {words}"
    assert repr(data) == f"<mine.npy: 20 of shape {words}>"


@pytest.mark.parametrize(("array", "stored"), [(GREY % 2, 1), (GREY % 2 * np.uint8(255), 255), (GREY % 2 / 1.0, 1)])
def test_of_binary_data_the_share_of_ones_is_told(array, stored):
    told = f"binary, stored as 0 and {stored}; binarization: given, {100 * (GREY % 2).mean():.3g} % ones"
    assert from_rows(array, "mine", "all").description().endswith(told)


def test_a_binarization_and_what_comes_of_it_are_told():
    grey, floats = from_rows(SMALL, "mine", "all", levels=17), from_rows(RNG.random((20, 3)), "mine", "all")
    told = binarize(grey, "static").description()
    ones = f"{100 * (SMALL > 8).mean():.3g} % ones"
    assert told.endswith(f"grey, 17 levels, stored as 0 to 16, found 0 to 15; binarization: static (x > 0.5), {ones}")
    drawn = f"{100 * SMALL.mean() / 16:.3g} % ones"
    assert binarize(grey, "dynamic").description().endswith(f"dynamic (drawn anew each epoch), {drawn}")
    assert ", real values from 0.0" in binarize(floats, "static").description()


def test_the_digits_and_tensors_are_told():
    assert (
        repr(digits("valid")) == "<digits: 200 of shape (8, 8), grey, 17 levels, stored as 0 to 16; binarization: none>"
    )
    assert repr(ImageData.of(torch.tensor([[0.5, 2.0]]))).startswith(
        "<a tensor: 1 of shape (2,), real values from 0.5 to 2"
    )


def test_the_data_are_gone_through_once(monkeypatch):
    data, parts = binarize(from_rows(GREY, "mine", "all"), "static"), []
    gone_through = ImageData.parts
    monkeypatch.setattr(ImageData, "parts", lambda self: parts.append(1) or gone_through(self))
    assert repr(data) == repr(data) and parts == [1]
    data.mean().fill_(7)  # a caller's own
    assert data.mean().max() <= 1
