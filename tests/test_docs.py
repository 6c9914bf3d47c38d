"""The table of estimators says what the code does: every row is made again, some verdicts too."""

import re
from pathlib import Path

import pytest
import torch

from docs import distributions
from docs.estimators import declared, judged, page
from pplvm.catalog import OBJECTIVES

PAGE = (Path(__file__).parent.parent / "docs" / "estimators.md").read_text()
ROWS = {
    cells[0].strip("`"): cells
    for line in PAGE.splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])
}


@pytest.fixture(autouse=True)
def as_a_user():
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def test_every_estimator_has_a_row():
    assert list(ROWS) == list(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_row_is_what_the_code_says(name):
    assert ROWS[name][:-1] == declared(name)


@pytest.mark.parametrize("name", ["biased-st", "exact"])
def test_the_verdict_is_found_again(name):
    assert ROWS[name][-1] == judged(name)


def test_biased_ones_say_so():
    by_name = {name for name in ROWS if name.startswith("biased-")}
    assert all(ROWS[name][-1].startswith("biased, ") for name in by_name - {"biased-pathwise"})
    percent = re.compile(r"biased, [\d.]+ %")
    assert all(percent.fullmatch(row[-1]) for row in ROWS.values() if row[-1].startswith("biased"))


@pytest.mark.slow
def test_the_whole_page_is_found_again():
    assert page() == PAGE


def test_the_page_of_distributions_is_what_the_docstrings_say():
    written = (Path(__file__).parent.parent / "docs" / "distributions.md").read_text()
    assert written == distributions.page()


def test_every_distribution_has_an_equation_and_a_source():
    for each in distributions.classes():
        told = distributions.entry(each)
        assert "```" in told and "Source: " in told, each.__name__
