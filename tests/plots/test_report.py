"""The HTML report: self-contained, escaped, and with a verdict that follows from the figures."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pplvm.plots.evaluation_page import evaluation_page
from pplvm.plots.gradients import save_figures
from pplvm.plots.overview import save_overview
from pplvm.plots.report import html_report
from pplvm.plots.summary import summary

VOID = {"meta", "img", "link", "br", "hr"}


class Page(HTMLParser):
    """What a page loads, its rows by class, its text; unbalanced tags are an error."""

    def __init__(self, html):
        super().__init__()
        self.sources, self.open, self.rows, self.tags, self.text = [], [], [], set(), ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.add(tag)
        self.sources += [attributes[key] for key in ("src", "href", "srcset", "data") if key in attributes]
        if tag == "tr" and "class" in attributes:
            self.rows.append(attributes["class"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("count", [1, 4, pytest.param(28, marks=pytest.mark.slow)])
def test_the_page_needs_nothing_but_itself(compared, tmp_path, count):
    ds = compared(count)
    figures = save_figures(ds, tmp_path)
    html = html_report([(ds, figures)])
    page = Page(html)
    assert [base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in page.sources] == [
        figure.read_bytes() for figure in figures
    ]
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {"script", "link", "iframe"} & page.tags


def test_biased_rows_are_marked_and_every_estimator_is_there(compared):
    ds = compared(14)
    page = Page(html_report([(ds, [])]))
    assert page.rows.count("biased") == 2 * 3 and page.rows.count("undecided") == 2
    for name in ds["estimator"].values:
        assert name in page.text
    for expected in ("pplvm compare vae digits --seed 7", "2.15.0", "arXiv:1802.04537", "1931", "41.5"):
        assert expected in page.text
    assert "the gradient of a tempered bound" in page.text


def test_several_sections_have_one_overview(compared, tmp_path):
    sections = [compared(9).assign_attrs(checkpoint=c, left_out="exact is left out: why") for c in ("fresh", "5 steps")]
    overview = save_overview(sections, tmp_path)
    html = html_report([(ds, []) for ds in sections], overview)
    page = Page(html)
    assert [s for s in page.sources if not s.startswith("data:")] == ["#section-1", "#section-2"]
    assert page.text.count("pplvm.programs.vae:VAE, fresh") == 2 and page.text.count("exact is left out: why") == 2
    assert page.text.count("What the columns mean") == 1 and page.rows.count("biased") == 2 * 2
    assert html.index("Overview") < html.index('id="section-1"') < html.index('id="section-2"')


def test_names_are_escaped(compared):
    ds = compared(4)
    nasty = "<script>alert('x')</script>&amp;"
    ds = ds.assign_coords(estimator=[nasty, *ds["estimator"].values[1:]], group=[nasty, *ds["group"].values[1:]])
    ds.attrs["program"] = ds.attrs["command"] = ds.attrs["checkpoint"] = nasty
    ds["note"][:], ds["target"][:], ds["reference"][:] = nasty, nasty, nasty
    page = Page(html_report([(ds, [])]))
    assert "script" not in page.tags
    assert page.text.count(nasty) >= 9


def test_missing_figures_and_attributes_do_not_break_the_page(compared):
    ds = compared(4)
    for name in ds:
        if ds[name].dtype.kind == "f":
            ds[name][:] = np.nan
    ds.attrs.clear()
    assert "nan" not in Page(html_report([(ds, [])])).text.split()


def test_a_figure_that_does_not_exist_is_named(compared, tmp_path):
    with pytest.raises(FileNotFoundError, match="no figure at .*gone.png: write it first"):
        html_report([(compared(4), [tmp_path / "gone.png"])])


@pytest.fixture
def known(compared):
    """Four estimators of the elbo: pathwise is unbiased and cheapest, rloo biased and cheaper still."""
    ds = compared(4)
    work = np.array([2.0, 5.0, 20.0, 1.0])
    ds["work"][:], ds["work_low"][:], ds["work_high"][:] = work, work * 0.9, work * 1.1
    ds["work_evaluations"][:] = work
    ds["verdict"][:] = ["unbiased", "unbiased", "undecided", "biased"]
    return ds


def test_the_verdict_names_winner_factor_and_runner_up(known):
    first, *others = summary(known.drop_vars("weight_khat"))
    assert "at equal work pathwise wins; the runner-up score-function needs 2.50 times as many milliseconds" in first
    assert first.endswith("for the same variance (95 % interval 2.13 to 2.94).") and "not told apart" not in first
    assert others == [
        "Biased: rloo.",
        "Undecided, no bias found but a small one could have escaped: sticking-the-landing.",
    ]


def test_the_verdict_names_nobody_whom_the_intervals_do_not_carry(known):
    known["work_high"][0] = 6.0
    sentence = summary(known)[0]
    assert "at equal work pathwise and score-function are not told apart; next is sticking-the-landing" in sentence
    assert "with 10.0 times the work of pathwise (95 % interval 2.83 to " in sentence and " wins" not in sentence


def test_the_verdict_tells_of_another_winner_by_evaluations_if_that_is_sure(known):
    known["variance"][:], known["variance_low"][:], known["variance_high"][:] = 1.0, 0.9, 1.1
    known["work_evaluations"][:] = [9.0, 5.0, 20.0, 1.0]
    words = "Counted in model evaluations instead of milliseconds, score-function would win."
    assert words in summary(known)[0]
    known["work_evaluations"][0] = 5.5
    assert "would win" not in summary(known)[0]


def test_the_verdict_compares_within_a_target_only(known):
    known["target"][:] = ["elbo", "iwae-16", "log p(x)", "log p(x)"]
    known["verdict"][:] = ["unbiased", "undecided", "biased", "biased"]
    assert summary(known)[:3] == [
        f"Gradient of {target}: {name} is the only one measured that is not biased, so nothing is compared."
        for target, name in (("elbo", "pathwise"), ("iwae-16", "score-function"))
    ] + [
        "Gradient of log p(x): every estimator that was measured is biased.",
    ]


def test_what_not_to_rely_on_is_said(known):
    assert not any(word in sentence for sentence in summary(known) for word in ("Heavy", "Repeated"))
    many = known.pad(draw=(0, 97))  # 100 draws, two chains
    many["kurtosis"][:] = [3.0, 51.0, np.nan, 49.0]
    many["effective_replicates"][:] = [180.0, 190.0, 20.0, np.nan]
    heavy, repeated = summary(many)[-2:]
    assert heavy.startswith("Heavy tails: gradients of score-function have a kurtosis above 50")
    assert repeated.startswith("Repeated noise: the 200 gradients kept of sticking-the-landing are")


def test_pages_have_a_night_and_their_text_can_be_read_by_day_and_by_night(compared):
    pages = [html_report([(compared(9), [])]), evaluation_page({"program": "vae"}, {}, {})]
    for html in pages:
        day, night = palettes(html)
        assert day != night and day.keys() == night.keys()
        used = set(re.findall(r"var\(--([a-z-]+)\)", html))
        assert used <= day.keys()
        assert not re.findall(r"#[0-9a-fA-F]{3,6}\b", html.split("</style>")[0].split("* { box-sizing")[1])
        for colours in (day, night):
            grounds = {
                "paper": ("ink", "quiet", "link", "alarm"), "box": ("ink",), "alarm-box": ("ink", "quiet", "alarm"),
            }  # fmt: skip
            for ground, inks in grounds.items():
                for ink in inks:
                    assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
            assert contrast("#666666", colours["card"]) >= 4.5, "the grey words of figures"


def palettes(html):
    """The colours of the page by day and by night, by name."""
    css = html[html.index(":root") : html.index("* { box-sizing")]
    day, night = css.split("@media screen and (prefers-color-scheme: dark)")
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part)) for part in (day, night)]


def contrast(one, other):
    """As the Web Content Accessibility Guidelines 2.1 define it."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float(
        np.dot([0.2126, 0.7152, 0.0722], np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4))
    )


def test_contrast_is_measured_as_the_guidelines_do():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") < 4.5


def test_figures_lie_on_a_light_card_and_scroll_on_a_phone(compared, tmp_path):
    ds = compared(4)
    html = html_report([(ds, save_figures(ds, tmp_path))])
    assert html.count('<div class="frame"><img') == 5
    assert "overflow-x: auto" in html.split(".frame {")[1].split("}")[0]
