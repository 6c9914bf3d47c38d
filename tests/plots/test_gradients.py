"""The figures of a gradient comparison: written, whole, honest about what is missing."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pplvm.plots.gradients import figures_left_out, forest, gradient_figures, save_figures, work_bars
from pplvm.plots.report import html_report


def drawn(plot, ds, panels=1):
    """The axes after `plot` drew on them and the figure was laid out."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(1, panels)
    plot(ds, axes)
    figure.draw_without_rendering()
    return axes


def texts(ax):
    return [t.get_text() for t in ax.texts]


@pytest.mark.parametrize("count", [4, pytest.param(28, marks=pytest.mark.slow)])
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


def test_forest_tells_absent_gradients_and_outliers(compared):
    ds = compared(4)
    ds["alignment_se"].loc[{"estimator": "rloo", "side": "model"}] = np.nan
    ds["alignment"].loc[{"estimator": "pathwise", "side": "guide"}] = -7.3
    ds["alignment_se"].loc[{"estimator": "sticking-the-landing"}] = np.nan
    ds["reference"].loc[{"estimator": "sticking-the-landing"}] = "none"
    ax = drawn(forest, ds)
    assert {"no gradient of the model", "no reference for the model", "no reference for the guide", "-7.3"} <= set(
        texts(ax)
    )
    assert ax.get_xlim() == (-0.5, 2.5)


def test_dollar_signs_in_names_start_no_formula(compared):
    ds = compared(4).assign_coords(estimator=["$\\broken{$", "b", "c", "d"])
    drawn(work_bars, ds)


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


def without(ds, *names):
    """A comparison in which what the named figures show was not measured."""
    lost = {
        "work": lambda ds: ds.assign(work=ds["work"] * np.nan),
        "snr": lambda ds: ds.isel(k=[]),
        "forest": lambda ds: ds.assign(alignment=ds["alignment"] * np.nan),
        "correlation": lambda ds: ds.drop_vars("correlation"),
        "weights": lambda ds: ds.assign(weight_khat=ds["weight_khat"].copy(data=np.full(60, np.nan))),
    }
    for name in names:
        ds = lost[name](ds)
    return ds


ALL = ("work", "snr", "forest", "correlation", "weights")


@pytest.mark.parametrize("missing", [*((name,) for name in ALL), ALL, ()])
def test_a_figure_without_data_is_left_out_and_the_report_says_why(compared, missing):
    ds = without(compared(4), *missing)
    assert list(gradient_figures(ds)) == [name for name in ALL if name not in missing]
    reasons = figures_left_out(ds)
    assert tuple(reasons) == missing
    page = html_report([(ds, [])]).replace("&#39;", "'")
    assert all(why in page for why in reasons.values())
    assert ("No figure of" in page) == bool(missing)


def test_a_lone_estimator_has_no_correlation(compared):
    assert list(figures_left_out(compared(1))) == ["correlation"]
    assert list(figures_left_out(compared(4).drop_vars(["sweep_snr", "sweep_floor"]))) == ["snr"]


@pytest.mark.parametrize("count", [1, 4, 28])
def test_no_panel_is_empty(compared, count):
    """Each has lines, bars, points or an image."""
    for name, figure in gradient_figures(compared(count)).items():
        for ax in figure.axes:
            drawn = [*ax.lines, *ax.patches, *ax.collections, *ax.images]
            assert any(len(getattr(a, "get_xdata", lambda: [0])()) for a in drawn), name


def test_bars_have_the_colour_of_their_rule_which_the_legend_names(compared):
    ds = compared(28)
    figure = gradient_figures(ds)["work"]
    (ax,) = figure.axes
    entries = {
        t.get_text(): h for t, h in zip(figure.legends[0].get_texts(), figure.legends[0].get_patches(), strict=True)
    }
    assert len(entries) == len(figure.legends[0].get_texts()) == len(set(ds["rule"].values)) + 1
    for label, bar in zip(ax.get_yticklabels(), by_height(ax.patches), strict=True):
        one = ds.sel(estimator=label.get_text())
        if one["verdict"].item() != "biased":
            assert bar.get_facecolor() == entries[one["rule"].item()].get_facecolor()
    assert entries["hatched: biased"].get_hatch()


def test_a_comparison_that_names_no_rules_is_coloured_by_target(compared):
    figure = gradient_figures(compared(9).drop_vars("rule"))["work"]
    assert {"elbo", "iwae-16"} <= {text.get_text() for text in figure.legends[0].get_texts()}
