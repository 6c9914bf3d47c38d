"""How an evaluation shows itself."""

import torch

from pplvm.evaluation.evaluate import Evaluation, evaluate
from pplvm.evaluation.figures import Figure
from pplvm.programs.ppca import ProbabilisticPCA
from tests.plots.test_report import Page

NASTY = "<script>alert('x')</script>"


def test_an_evaluation_prints_and_shows_its_figures_with_errors():
    found = evaluate(ProbabilisticPCA(data_size=3), torch.randn(20, 3), ks=(1, 10))
    before = torch.get_rng_state()
    text, page = repr(found), Page(found._repr_html_())
    assert torch.equal(before, torch.get_rng_state())
    for title, figures in found.sections.items():
        assert title in text and title in page.text
        for figure in figures:
            assert figure.name in text and figure.name in page.text and figure.unit in page.text
    assert "tensor" not in text and "±" in text and "±" in page.text
    lines = [line for line in text.splitlines() if line.startswith("  log p(x), k")]
    assert len(lines) == 2 and len({line.index(".") for line in lines}) == 1, "aligned at the point"


def test_hostile_names_are_escaped_and_what_cannot_be_shown_is_printed():
    found = Evaluation({NASTY: [Figure(NASTY, 1.0, 0.1, NASTY, NASTY)]}, {}, (NASTY,))
    page = Page(found._repr_html_())
    assert "script" not in page.tags and page.text.count(NASTY) == 5
    broken = Evaluation({"likelihood": [Figure("rate", None, None, "nats")]}, {}, ())
    assert broken._repr_html_().startswith("<pre>") and "Evaluation" in broken._repr_html_()
