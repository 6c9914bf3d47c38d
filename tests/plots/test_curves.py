"""Curves: a panel a quantity, what was recorded and nothing else."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from pplvm.plots.curves import convergence_figure, curves_figure, save_convergence, save_curves


@pytest.fixture
def written(monkeypatch):
    """The figures that are written, not drawn."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **kind: figures.append(figure))
    return figures


def panels(figure):
    return {ax.get_title(loc="left"): ax for ax in figure.axes if ax.axison}


def curves(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_each_quantity_has_its_panel_and_validation_stands_beside_training(written, tmp_path):
    records = [
        {"step": 20, "epoch": 2, "loss": 3.0, "grad_norm": 1.0, "validation/loss": 3.5, "device": "cpu"},
        {"step": 10, "epoch": 1, "loss": 4.0, "rate": 7.0},
        {"step": 30, "epoch": 3, "loss": float("nan"), "grad_norm": float("inf"), "validation/active_units": 5},
    ]
    save_curves(records, tmp_path / "curves.png")
    found = panels(written[0])
    assert list(found) == ["loss", "rate", "grad norm", "active units"]
    assert curves(found["loss"]) == {"training": [[10, 4], [20, 3]], "validation": [[20, 3.5]]}
    assert curves(found["rate"]) == {"training": [[10, 7]]}
    assert curves(found["grad norm"]) == {"training": [[20, 1]]}
    assert curves(found["active units"]) == {"validation": [[30, 5]]}
    assert found["loss"].get_legend() and not found["rate"].get_legend()
    assert len({ax.get_xlim() for ax in found.values()}) == 1


def test_long_noisy_curves_are_smoothed_and_steps_are_not(written, tmp_path):
    noise = np.random.default_rng(0).normal(size=5000)
    records = [{"step": s, "loss": 2 + e, "learning_rate": 0.5 ** (s // 1000)} for s, e in enumerate(noise)]
    save_curves(records, tmp_path / "curves.png")
    found = panels(written[0])
    (raw, mean), (rates,) = found["loss"].lines, found["learning rate"].lines
    np.testing.assert_allclose(raw.get_ydata(), 2 + noise)
    np.testing.assert_allclose(mean.get_ydata()[2500], 2 + noise[2450:2551].mean())
    np.testing.assert_allclose(mean.get_ydata()[[0, -1]], 2 + np.array([noise[:51].mean(), noise[-51:].mean()]))
    assert sorted(set(rates.get_ydata())) == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_a_beginning_that_would_squeeze_the_rest_leaves_the_view_and_is_told(written, tmp_path):
    save_curves([{"step": s, "loss": 500.0 if s < 3 else 90 - s / 50} for s in range(150)], tmp_path / "curves.png")
    save_curves([{"step": s, "loss": 90 - s / 50} for s in range(150)], tmp_path / "curves.png")
    squeezed, plain = (panels(figure)["loss"] for figure in written)
    assert squeezed.get_ylim()[1] < 91 and "out of view: up to 500" in squeezed.get_title(loc="right")
    assert plain.get_ylim()[1] > 90 and not plain.get_title(loc="right")


def test_the_files_are_written_in_a_readable_size(tmp_path):
    one = save_curves([{"step": 0, "loss": 1.0}], tmp_path / "one.png")
    many = save_curves([{"step": s, **{f"b{i}": s * i for i in range(7)}} for s in range(4)], tmp_path / "many.png")
    convergence = save_convergence([1, 10, 5000], [-3.0, -2.0, -1.9], [0.1, 0.1, 0.1], tmp_path / "k.png", exact=-1.8)
    sizes = [matplotlib.image.imread(path).shape[:2] for path in (one, many, convergence)]
    assert sizes == [(405, 675), (1440, 1200), (600, 960)]


def test_records_without_steps_or_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no 'step'"):
        save_curves([{"loss": 1.0}], tmp_path / "curves.png")
    for records in ([], [{"step": 1, "loss": float("nan"), "note": "x"}]):
        with pytest.raises(ValueError, match="nothing to draw"):
            save_curves(records, tmp_path / "curves.png")


def test_convergence_has_a_logarithmic_axis_bars_and_the_truth(written, tmp_path):
    save_convergence([1, 10, 100], [-3.0, -2.0, -1.9], [0.1, 0.2, 0.3], tmp_path / "k.png", exact=-1.85)
    (ax,) = written[0].axes
    assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["1", "10", "100"]
    assert ax.lines[0].get_xydata().tolist() == [[1, -3], [10, -2], [100, -1.9]]
    (bars,) = (c for c in ax.collections if len(c.get_segments()) == 3)
    np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars.get_segments()], [0.2, 0.4, 0.6])
    assert [text.get_text() for text in ax.texts] == ["exact\n−1.850"]
    save_convergence([1, 10], [-3.0, -2.0], [0.1, 0.2], tmp_path / "k.png")
    assert [text.get_text() for text in written[1].axes[0].texts] == ["−2.000"]


def test_axes_say_the_unit():
    record = {
        "step": 1, "loss": 1.0, "bound": 1.0, "objective": 1.0, "elbo": 1.0, "rate": 1.0, "rate_z": 1.0,
        "distortion": 1.0, "validation/bound": 2.0, "bits_per_dim": 1.0, "active_units": 3, "mine": 1.0,
    }  # fmt: skip
    units = {ax.get_title(loc="left"): ax.get_ylabel() for ax in curves_figure([record]).axes}
    nats = {name for name, unit in units.items() if unit == "nats per datum"}
    assert nats == {"loss", "bound", "objective", "elbo", "rate", "rate z", "distortion"}
    assert units["bits per dim"] == "bits/dim" and units["active units"] == "units" and units["mine"] == ""
    (ax,) = convergence_figure([1, 10], [-3.0, -2.0], [0.1, 0.2]).axes
    assert ax.get_ylabel() == "log p(x), nats per datum"


def test_no_panel_stands_empty_beside_an_odd_number_of_quantities():
    figure = curves_figure([{"step": s, "loss": s, "rate": s, "distortion": s} for s in range(3)])
    assert len(figure.axes) == 3 and all(ax.lines for ax in figure.axes)


def test_what_never_changes_is_drawn_on_an_axis_from_zero():
    (ax,) = curves_figure([{"step": s, "learning_rate": 0.001} for s in range(3)]).axes
    assert ax.get_ylim() == (0, 0.002)
    (ax,) = curves_figure([{"step": s, "bound": -20.0} for s in range(3)]).axes
    assert ax.get_ylim() == (-40, 0)


@pytest.mark.parametrize("means", [[-3.0], [], [-3.0, float("nan")]])
def test_one_number_of_draws_makes_no_curve(means):
    with pytest.raises(ValueError, match="needs two numbers of draws with a finite figure"):
        convergence_figure([1, 10][: len(means)], means, [0.1] * len(means))
