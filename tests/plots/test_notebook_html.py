"""Displays: everything is there, escaped, in the notebook's own colours, and nothing is left behind."""

import base64
import io
import re
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest

from pplvm.plots.notebook_html import (
    comparison_html,
    comparison_text,
    evaluation_html,
    evaluation_text,
    html_or_text,
    images_html,
    run_html,
    spec_facts,
)
from tests.plots.test_report import Page

NASTY = "<script>alert('x')</script>&amp;"
ROW = {"name": NASTY, "value": -21.7543, "error": 0.28, "unit": NASTY, "note": NASTY}
RUN = {
    "program": NASTY, "objective": NASTY, "data": {NASTY: NASTY}, "step": 4000,
    "settings": {NASTY: NASTY, "beta": None}, "directory": NASTY,
}  # fmt: skip


def displays(compared):
    ds = compared(4).assign_coords(estimator=[NASTY, "b", "c", "d"]).assign_attrs(left_out=NASTY)
    ds["target"][:], ds["rule"][:] = NASTY, NASTY
    yield "evaluation", evaluation_html({NASTY: [ROW]}, [NASTY]), 5
    yield "comparison", comparison_html(ds), 4
    yield "images", images_html({"data": NASTY}, np.zeros((2, 8, 8)), [NASTY, NASTY]), 3
    yield "run", run_html(**RUN), 7
    yield "plain", html_or_text(lambda: 1 / 0, lambda: NASTY), 1


def test_hostile_names_are_escaped_in_every_display(compared):
    for what, html, count in displays(compared):
        page = Page(html)
        assert not {"script", "style", "link", "iframe"} & page.tags, what
        assert page.text.count(NASTY) >= count, what
        assert not re.search(r"<[^>]*\son\w+=|https?://|url\(", html), what


def test_colours_are_those_of_the_notebook(compared):
    """No text and no ground has a colour of its own; what is quiet is so by opacity, whichever the theme."""
    for _, html, _ in displays(compared):
        assert not re.search(r"[;\"]color:(?!inherit)", html)
        assert set(re.findall(r"background:([^;\"]+)", html)) <= {"transparent", *re.findall(r"#[0-9A-F]{6}", html)}
        assert all(float(found) >= 0.75 for found in re.findall(r"opacity:([\d.]+)", html))


def test_quiet_text_can_be_read_on_light_and_on_dark():
    for text, ground in ((0.13, 1.0), (0.87, 0.067)):  # JupyterLab's themes, as shares of white
        seen = 0.75 * text + 0.25 * ground
        bright, dark = sorted((luminance(seen), luminance(ground)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def luminance(grey):
    return ((grey + 0.055) / 1.055) ** 2.4


def test_an_evaluation_has_its_figures_with_errors():
    rows = [{"name": "log p(x)", "value": -21.7543, "error": 0.28, "unit": "nats", "note": "k = 10"}]
    page = Page(evaluation_html({"likelihood": rows, "nothing": []}, ["why not"]))
    assert all(word in page.text for word in ("likelihood", "−21.75", "± 0.28", "nats", "k = 10", "why not"))
    assert "nothing" not in page.text
    text = evaluation_text({"likelihood": rows}, ["why not"])
    assert text == "likelihood\n  log p(x)  −21.75  ± 0.28  nats\n      k = 10\n\nleft out: why not"


def test_a_comparison_has_its_verdicts_target_by_target(compared):
    ds = compared(9)
    page = Page(comparison_html(ds, "<p>unfolded</p>"))
    for name in ds["estimator"].values:
        assert name in page.text
    assert page.text.count("gradient of elbo") == 1 and "BIASED 42%" in page.text and "unfolded" in page.text
    assert "1.00×" in page.text
    text = comparison_text(ds)
    assert "BIASED 42%" in text and "xarray.Dataset" in text


def images_of(html):
    for source in re.findall(r'src="data:image/png;base64,([^"]+)"', html):
        yield matplotlib.image.imread(io.BytesIO(base64.b64decode(source)))[:, :, :3]


def test_thumbnails_are_the_data():
    data = np.random.default_rng(0).random((3, 8, 8))
    shown = list(images_of(images_html({}, data, ["a"])))
    assert len(shown) == 3
    np.testing.assert_allclose(shown[1], data[1][:, :, None].repeat(3, 2), atol=1 / 255)
    (red,) = images_of(images_html({}, np.stack([np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))])[None]))
    assert (red == [1, 0, 0]).all()
    wide = list(images_of(images_html({}, 10 * data - 5)))
    assert min(image.min() for image in wide) == 0 and max(image.max() for image in wide) == 1


@pytest.mark.parametrize("shape", [(2, 1000, 700), (2, 3, 500, 500), (2, 100_000), (2, 49), (2, 10), (2, 1)])
def test_thumbnails_of_any_size_are_small(shape):
    html = images_html({}, np.random.default_rng(0).random(shape))
    assert len(list(images_of(html))) == 2 and len(html) < 60_000
    assert all(max(image.shape) <= 64 for image in images_of(html))


@pytest.mark.parametrize(
    "images", [np.zeros(3), np.zeros((2, 5, 4, 4)), np.zeros((0, 8, 8)), np.full((1, 4, 4), np.nan)]
)
def test_what_is_no_image_has_no_thumbnail(images):
    assert "<img" not in images_html({"data": "x"}, images) and "data" in images_html({"data": "x"}, images)


def test_a_run_says_what_was_trained_and_when():
    told = {"program": "vae", "objective": "Pathwise", "data": {"data": "digits"}, "step": 4000, "directory": "runs/a"}
    text = Page(run_html(**told, settings={"seed": 3, "beta": None})).text
    assert all(word in text for word in ("vae", "Pathwise", "digits", "4,000", "runs/a", "seed", "3"))
    assert "beta" not in text and "None" not in text


def test_facts_of_data_are_words():
    spec = SimpleNamespace(name="mine", size=1234, shape=(3, 32, 32), levels=None, binarization="none")
    assert list(spec_facts(spec).values()) == ["mine", "1,234", "3 × 32 × 32", "any number", "none"]
    assert spec_facts(SimpleNamespace(**vars(spec) | {"levels": 2}))["values"] == "0 and 1"


def test_nothing_is_drawn_by_pyplot(compared):
    import matplotlib.pyplot as plt

    list(displays(compared))
    assert not plt.get_fignums()
