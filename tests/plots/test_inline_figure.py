"""Figures that notebooks show."""

import io

import matplotlib.image

from pplvm.plots.inline_figure import InlineFigure


def test_a_notebook_shows_a_figure_once_and_pyplot_knows_nothing_of_it():
    import matplotlib.pyplot as plt

    figure = InlineFigure(figsize=(4, 2), dpi=75)
    figure.subplots().plot([1, 2])
    shown = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
    assert shown.shape[:2] == (150, 300) and (shown[:, :, :3] < 1).any()
    assert not plt.get_fignums() and figure._repr_html_() is None
