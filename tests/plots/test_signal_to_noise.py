"""Signal against particles: slopes of theory, hollow points, lines that are named where they end."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from pplvm.plots.signal_to_noise import has_signal, snr_against_particles, snr_figure


def drawn(ds):
    """Both axes after the figure was laid out."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(1, 2)
    snr_against_particles(ds, axes)
    figure.draw_without_rendering()
    return axes


def texts(ax):
    return [t.get_text() for t in ax.texts if t.get_text()]


def test_points_below_the_floor_are_hollow(compared):
    ds = compared(1)
    ds["sweep_floor"][:] = 0.1
    ds["sweep_snr"].loc[{"side": "model"}] = [[0.5, 0.2, 0.05, np.nan]]
    ax = drawn(ds)[0]
    filled, hollow = (
        [line for line in ax.lines if line.get_marker() == "s" and len(line.get_xdata())][i] for i in (0, 1)
    )
    assert filled.get_ydata().tolist() == [0.5, 0.2]
    assert hollow.get_ydata().tolist() == [0.05, 0.1] and hollow.get_markerfacecolor() == "white"


def test_guide_lines_have_the_slopes_of_theory(compared):
    ax = drawn(compared(4))[1]
    guides = [line for line in ax.lines if line.get_color() == "#BBBBBB"]
    slopes = [float(np.diff(np.log(line.get_ydata()))[0] / np.diff(np.log(line.get_xdata()))[0]) for line in guides]
    assert slopes == pytest.approx([0.5, -0.5])
    assert {"∝ √K", "∝ 1/√K"} <= set(texts(ax))


def test_every_estimator_that_was_swept_is_named_once_at_the_end_of_its_line(compared):
    ds = compared(14)
    ds["sweep_snr"].loc[{"estimator": "disarm"}] = np.nan
    ds["sweep_floor"].loc[{"estimator": "disarm"}] = np.nan
    for ax in drawn(ds):
        named = ", ".join(texts(ax)).replace("\n", " ").split(", ")
        assert "disarm" not in named and "pyro-renyi (biased)" in named
        assert sorted(n.removesuffix(" (biased)") for n in named if n in set(ds["estimator"].values) or "(" in n) == (
            sorted(set(ds["estimator"].values) - {"disarm"})
        )


def test_lines_that_lie_on_each_other_share_a_label(compared):
    ds = compared(4).drop_sel(estimator="rloo")
    ds["sweep_snr"][1] = ds["sweep_snr"][0] * 1.001
    ds["sweep_snr"][2] = ds["sweep_snr"][0] * 3
    named = [set(text.replace("\n", " ").split(", ")) for text in texts(drawn(ds)[0])]
    assert {"pathwise", "score-function"} in named and {"sticking-the-landing"} in named


@pytest.mark.parametrize("count", [4, 14, 28])
def test_names_cover_neither_each_other_nor_what_lies_outside(compared, count):
    figure = snr_figure(compared(count))
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [t.get_window_extent() for t in ax.texts if t.get_text()]
        boxes.append(ax.title.get_window_extent()) if ax.title.get_text() else None
        assert len(boxes) > 2
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), ax.get_title(loc="left")
        assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 + 1 for b in boxes)


@pytest.mark.parametrize("count", [4, 14, 28])
def test_the_legend_names_each_rule_once_and_no_estimator(compared, count):
    ds = compared(count)
    (legend,) = snr_figure(ds).legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert len(entries) == len(set(entries)) <= 12
    assert set(entries) - {"dashed: biased", "hollow: below the floor"} == set(ds["rule"].values)


def test_a_row_for_each_target_that_was_swept(compared):
    ds = compared(9)
    titles = [ax.get_title(loc="left") for ax in snr_figure(ds).axes]
    assert len(titles) == 4 and sum("gradient of elbo: the guide" in title for title in titles) == 1
    ds["sweep_snr"].loc[{"estimator": ds["target"] == "elbo"}] = np.nan
    ds["sweep_floor"].loc[{"estimator": ds["target"] == "elbo"}] = np.nan
    assert all("iwae-16" in ax.get_title(loc="left") for ax in snr_figure(ds).axes)


def test_a_side_without_gradient_is_said_to_have_none(compared):
    ds = compared(4)
    ds["sweep_snr"].loc[{"side": "guide"}], ds["sweep_floor"].loc[{"side": "guide"}] = np.nan, np.nan
    assert texts(drawn(ds)[1]) == ["no gradient of the guide"]


def test_without_a_sweep_there_is_no_figure(compared):
    for ds in (compared(4).isel(k=[]), compared(4).drop_vars("sweep_snr")):
        assert not has_signal(ds)
        with pytest.raises(ValueError, match="nothing to draw"):
            snr_figure(ds)


def test_a_target_is_named_without_the_number_of_particles_that_the_axis_shows(compared):
    ds = compared(4)
    ds["target"][:] = "iwae, K=4"
    assert snr_figure(ds).axes[0].get_title("left") == "gradient of iwae: the model's parameters"
