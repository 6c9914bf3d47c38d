"""The overview: every estimator of every section in its place."""

import pytest
from matplotlib.figure import Figure

from pplvm.plots.overview import save_overview, work_map


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
