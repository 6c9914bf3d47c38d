"""The page of an evaluation: self-contained, escaped, with every figure and every circumstance."""

import base64
import re

import numpy as np
import pytest

from pplvm.plots.evaluation_page import NOT_COMPARABLE, evaluation_page
from pplvm.plots.images import save_grid
from tests.plots.test_report import Page

KNOWN = {"program": "vae", "data": "digits", "split": "test", "k": "5000", "seed": "7", "command": "pplvm evaluate x"}
FIGURES = [
    {"name": "log p(x)", "value": -85.12345, "error": 0.0678, "unit": "nats", "note": "k = 5000"},
    {"name": "active units", "value": 17, "error": None, "unit": "units"},
    {"name": "exact", "value": 0.123456},
    {"name": "broken", "value": float("nan"), "error": float("nan")},
    {"name": "collapsed", "value": float("-inf"), "error": 0.0},
    {"name": "verdict", "value": "all well", "unit": None},
]


def test_every_circumstance_and_figure_is_there_rounded_to_its_error():
    page = Page(evaluation_page(KNOWN, {"Likelihood": FIGURES, "Nothing": []}, {}))
    for name, value in KNOWN.items():
        assert name in page.text and value in page.text
    told = ("−85.123", "± 0.068", "k = 5000", "17", "units", "0.1235", "no figure", "−∞", "all well")
    assert all(word in page.text for word in told)
    assert page.text.count("±") == 3, "in the column's head, beside one figure, and where it is explained"
    assert "Nothing" not in page.text and "None" not in page.text and "nan" not in page.text
    assert "Not comparable" not in page.text and "Pictures" not in page.text


def test_the_page_needs_nothing_but_itself(tmp_path):
    paths = {"one <b>": save_grid(np.zeros((1, 1, 8, 8)), tmp_path / "a.png")}
    paths["broad"] = save_grid(np.zeros((1, 12, 8, 8)), tmp_path / "b.png")
    html = evaluation_page(KNOWN, {}, paths)
    page = Page(html)
    assert [base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in page.sources] == [
        path.read_bytes() for path in paths.values()
    ]
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {"script", "link", "iframe", "b"} & page.tags
    assert html.count('class="broad"') == 1


def test_why_figures_are_not_comparable_stands_in_a_box():
    one = Page(evaluation_page(KNOWN | {NOT_COMPARABLE: "the split is not theirs"}, {}, {}))
    assert "Not comparable with published figures because the split is not theirs" in one.text
    assert "ul" not in one.tags and one.text.count("split is not theirs") == 1
    two = Page(evaluation_page(KNOWN | {NOT_COMPARABLE: "of this\nof that\n"}, {}, {}))
    assert "ul" in two.tags and "of this" in two.text and "of that" in two.text


def test_whatever_is_told_is_escaped(tmp_path):
    nasty = "<script>alert('x')</script>&amp;"
    figure = {"name": nasty, "value": nasty, "error": 0.1, "unit": nasty, "note": nasty}
    picture = save_grid(np.zeros((1, 1, 8, 8)), tmp_path / "a.png")
    known = {"program": nasty, "data": nasty, nasty: nasty, NOT_COMPARABLE: nasty}
    page = Page(evaluation_page(known, {nasty: [figure]}, {nasty: picture}))
    assert "script" not in page.tags
    assert (
        page.text.count(nasty) == 2 + 2 + 4 + 1 + 1 + 4 + 1
    )  # title, heading, circumstances, box, section, row, caption


def test_a_page_about_nothing_is_still_a_page():
    assert "Evaluation: a program on unnamed data" in Page(evaluation_page({}, {}, {})).text


def test_a_picture_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no figure at .*gone.png"):
        evaluation_page(KNOWN, {}, {"gone": tmp_path / "gone.png"})
