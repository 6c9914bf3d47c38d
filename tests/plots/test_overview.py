"""The overview: every estimator of every section in its place."""

import pytest
from matplotlib.figure import Figure

from pplvm.plots.overview import save_overview, work_map


def test_factors_that_are_not_told_apart_from_one_and_what_is_unfinished_are_marked(compared):
    ds = compared(3)
    ds["target"][:], ds["verdict"][:] = "elbo", "unbiased"
    ds["work"][:], ds["work_low"][:], ds["work_high"][:] = [2.0, 2.1, 9.0], [1.8, 1.9, 8.0], [2.2, 2.3, 10.0]
    cut = ds.assign(verdict=("estimator", ["unfinished"] * 3))
    ax = Figure().subplots()
    work_map([ds, cut], ax)
    cells = [text.get_text() for text in ax.texts if "×)" in text.get_text()]
    assert sum("≈" in cell for cell in cells) == 2 and {cell for cell in cells if "≈" in cell} == {"2.10 (≈1.05×)"}
    assert [text.get_text().endswith("unfinished") for text in ax.get_xticklabels()] == [False, True]


@pytest.mark.parametrize("count", [4, 28])
def test_a_cell_for_every_estimator_that_was_measured(compared, tmp_path, count):
    sections = [compared(count).assign_attrs(checkpoint="fresh"), compared(3, seed=1).assign_attrs(checkpoint="x.pt")]
    figure = Figure(figsize=(9, 11), layout="constrained")
    ax = figure.subplots()
    work_map(sections, ax)
    figure.draw_without_rendering()
    cells = [text.get_text() for text in ax.texts if "×)" in text.get_text()]
    assert len(cells) == count + 3
    assert sum("biased" in cell for cell in cells) == sum((ds["verdict"] == "biased").sum() for ds in sections)
    assert [text.get_text() for text in ax.get_xticklabels()][1].endswith("x.pt")
    assert save_overview(sections, tmp_path).name == "overview.png"


def test_one_without_noise_has_no_factor(compared):
    ds = compared(3)
    ds["target"][:], ds["verdict"][:], ds["work"][:] = ["elbo", "elbo", "log p(x)"], "unbiased", [1.0, 2.0, 0.0]
    ax = Figure().subplots()
    work_map([ds], ax)
    assert "no noise" in [text.get_text() for text in ax.texts] and not any("(-×)" in t.get_text() for t in ax.texts)
