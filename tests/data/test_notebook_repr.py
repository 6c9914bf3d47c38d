"""How notebooks show a data set."""

import random
import time

import numpy as np
import pytest
import torch

from pplvm.data.image_data import ImageData
from tests.plots.test_notebook_html import images_of
from tests.plots.test_report import Page

NASTY = "<script>alert('x')</script>"


def test_the_promise_and_thumbnails_of_the_first_data_with_their_labels():
    images = torch.randint(0, 17, (50, 8, 8), dtype=torch.uint8)
    html = ImageData(images, NASTY, levels=17, labels=torch.arange(50) + 100)._repr_html_()
    page, shown = Page(html), list(images_of(html))
    assert "script" not in page.tags and NASTY in page.text and "17 levels" in page.text and "8 × 8" in page.text
    assert len(shown) == 20 and "100" in page.text and "119" in page.text and "120" not in page.text
    np.testing.assert_allclose(shown[3][:, :, 0], images[3] / 16, atol=1 / 255)


@pytest.mark.parametrize("shape", [(3, 64), (3, 1, 8, 8), (3, 3, 8, 8)])
def test_shapes_that_have_a_picture(shape):
    assert len(list(images_of(ImageData(torch.rand(shape), "x", levels=None)._repr_html_()))) == 3


@pytest.mark.parametrize("shape", [(3,), (3, 2, 4, 8, 8), (3, 7, 8, 8)])
def test_shapes_that_have_none_are_told_all_the_same(shape):
    html = ImageData(torch.rand(shape), "mine", levels=None)._repr_html_()
    assert "mine" in html and "<img" not in html


def test_looking_changes_no_random_state_and_costs_little():
    data = ImageData(torch.rand(70_000, 28, 28), "x", levels=None, binarization="dynamic", labels=torch.zeros(70_000))
    data._repr_html_()
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    start = time.process_time()
    first = data._repr_html_()
    assert time.process_time() - start < 1
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())
    assert data._repr_html_() == first


def test_looking_at_broken_data_is_no_error():
    data = ImageData(torch.rand(3, 8, 8), "x", levels=None)
    data.spec = None
    assert data._repr_html_().startswith("<pre>")


def test_conditions_are_told_and_labels_that_are_not_known():
    data = ImageData(torch.rand(9, 2, 2), "x", None, torch.arange(9) % 3).with_known_labels(3)
    assert "given" not in Page(data._repr_html_()).text
    text = Page(data.conditioned("labels")._repr_html_()).text
    assert "given" in text and "labels of 3 classes, 6 of 9 not known" in text and text.count("?") == 6
