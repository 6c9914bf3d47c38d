"""The figures of a gradient comparison: written, whole, honest about what is missing."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pplvm.plots.gradients import forest, save_figures, snr_against_particles, work_bars
from pplvm.plots.looks import looks


def drawn(plot, ds, panels=1):
    """The axes after `plot` drew on them and the figure was laid out."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(1, panels)
    plot(ds, axes)
    figure.draw_without_rendering()
    return axes


def texts(ax):
    return [t.get_text() for t in ax.texts]


@pytest.mark.parametrize("count", [4, 28])
def test_figures_are_written_as_png(compared, tmp_path, count):
    paths = save_figures(compared(count), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "work.png", "snr.png", "forest.png", "correlation.png", "weights.png",
    ]  # fmt: skip
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


@pytest.mark.parametrize("count", [4, 14, 28])
@pytest.mark.parametrize("plot", [work_bars, forest])
def test_no_text_lies_outside_the_canvas(compared, plot, count):
    ds = compared(count)
    long_name = "a_package.with_a.rather_long.path:" + "VeryLongEstimator" * 3
    ds = ds.assign_coords(estimator=[long_name, *ds["estimator"].values[1:]])
    ax = drawn(plot, ds)
    canvas = ax.figure.bbox
    legend = ax.get_legend().get_texts() if ax.get_legend() else []
    inside = [child for child in ax.get_children() if isinstance(child, Text) and child.get_text()]
    labels = [*inside, *legend, *ax.get_yticklabels(), ax.xaxis.label]
    assert len(labels) > count + 4
    for text in labels:
        box = text.get_window_extent()
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1, text
        assert canvas.y0 <= box.y0 and box.y1 <= canvas.y1, text


def test_bars_end_at_the_work_and_biased_ones_are_hatched(compared):
    ds = compared(9)
    ax = drawn(work_bars, ds)
    bars = {label.get_text(): bar for label, bar in zip(ax.get_yticklabels(), by_height(ax.patches), strict=True)}
    for name, bar in bars.items():
        one = ds.sel(estimator=name)
        assert bar.get_x() + bar.get_width() == pytest.approx(one["work"].item())
        assert bool(bar.get_hatch()) == (one["verdict"].item() == "biased")
    assert texts(ax).count("BIASED") == 1
    assert {"gradient of elbo", "gradient of iwae-16"} <= set(texts(ax))


def by_height(bars):
    return sorted(bars, key=lambda bar: bar.get_y())


def test_an_estimator_without_work_has_no_bar(compared):
    ds = compared(4)
    ds["work"].loc[{"estimator": "rloo"}] = np.nan
    ds["work"].loc[{"estimator": "pathwise"}] = 0.0
    ax = drawn(work_bars, ds)
    assert len(ax.patches) == 2
    assert "no figure" in texts(ax) and "0×" in texts(ax)


def test_points_below_the_floor_are_hollow(compared):
    ds = compared(1)
    ds["sweep_floor"][:] = 0.1
    ds["sweep_snr"].loc[{"side": "model"}] = [[0.5, 0.2, 0.05, np.nan]]
    ax = drawn(snr_against_particles, ds, 2)[0]
    filled, hollow = (
        [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())][i] for i in (0, 1)
    )
    assert filled.get_ydata().tolist() == [0.5, 0.2]
    assert hollow.get_ydata().tolist() == [0.05, 0.1] and hollow.get_markerfacecolor() == "white"


def test_guide_lines_have_the_slopes_of_theory(compared):
    ax = drawn(snr_against_particles, compared(4), 2)[1]
    guides = [line for line in ax.lines if line.get_color() == "#BBBBBB"]
    slopes = [float(np.diff(np.log(line.get_ydata()))[0] / np.diff(np.log(line.get_xdata()))[0]) for line in guides]
    assert slopes == pytest.approx([0.5, -0.5])
    assert texts(ax) == ["∝ √K", "∝ 1/√K"]


def test_every_estimator_that_was_swept_is_in_the_legend(compared):
    ds = compared(14)
    ds["sweep_snr"].loc[{"estimator": "disarm"}] = np.nan
    ds["sweep_floor"].loc[{"estimator": "disarm"}] = np.nan
    shown = [t.get_text() for t in drawn(snr_against_particles, ds, 2)[1].get_legend().get_texts()]
    assert "disarm" not in shown and "pyro-renyi (biased)" in shown and len(shown) == 14


def test_a_sweep_that_was_not_run_is_said_to_be_missing(compared):
    for ds in (compared(4).isel(k=[]), compared(4).where(False).assign(verdict=compared(4)["verdict"])):
        assert [texts(ax) for ax in drawn(snr_against_particles, ds, 2)] == [["not measured"]] * 2


def test_forest_tells_absent_gradients_and_outliers(compared):
    ds = compared(4)
    ds["alignment_se"].loc[{"estimator": "rloo", "side": "model"}] = np.nan
    ds["alignment"].loc[{"estimator": "pathwise", "side": "guide"}] = -7.3
    ax = drawn(forest, ds)
    assert {"no gradient of the model", "-7.3"} <= set(texts(ax))
    assert ax.get_xlim() == (-0.5, 2.5)


def test_dollar_signs_in_names_start_no_formula(compared):
    ds = compared(4).assign_coords(estimator=["$\\broken{$", "b", "c", "d"])
    drawn(work_bars, ds)


def test_as_many_estimators_as_there_may_be_look_different(compared):
    found = looks(compared(28)).values()
    assert len({tuple(look.values()) for look in found}) == 28
    assert len({(look["color"], look["marker"]) for look in found}) == 28  # also where only points are drawn


@pytest.mark.parametrize("plot", [work_bars, forest])
def test_rows_do_not_overlap(compared, tmp_path, plot):
    """Drawn at the size that save_figures gives 28 estimators."""
    ds = compared(28)
    figure = Figure(figsize=(9.5, 1.5 + 0.36 * 31), layout="constrained")
    ax = figure.subplots()
    plot(ds, ax)
    figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent() for t in ax.get_yticklabels()), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 for low, high in itertools.pairwise(boxes))


def test_what_was_not_measured_has_no_figure(compared, tmp_path):
    ds = compared(4).drop_vars(["correlation", "weight_khat"])
    assert [path.stem for path in save_figures(ds, tmp_path)] == ["work", "snr", "forest"]
    assert "correlation" not in [path.stem for path in save_figures(compared(1), tmp_path)]
