"""Rate against distortion: points where they belong, diagonals of one elbo, names that can be read."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pplvm.plots.rate_distortion import save_rate_distortion

CURVE = [{"rate": r, "distortion": 60 + 400 / (r + 5), "beta": b} for b, r in ((1, 24), (0.1, 45), (4, 9), (0.5, 30))]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of what is written for some points."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **kind: figures.append(figure))

    def draw(points):
        save_rate_distortion(points, tmp_path / "rd.png")
        return figures[-1].axes[0]

    return draw


def test_points_are_joined_in_the_order_of_beta(drawn):
    ax = drawn([*CURVE, {"rate": 20.0, "distortion": 70.0, "label": "another"}])
    assert ax.lines[0].get_ydata().tolist() == [45, 30, 24, 9]
    points = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() == "o"]
    assert points == [[p["distortion"], p["rate"]] for p in CURVE] + [[70, 20]]
    names = {text.get_text() for text in ax.texts}
    assert {"β = 0.1", "β = 0.5", "β = 1", "β = 4", "another"} <= names


def test_runs_of_one_beta_are_no_curve_and_axes_are_in_nats(drawn):
    ax = drawn([point | {"beta": 1.0} for point in CURVE])
    assert not any(line.get_linestyle() == "-" and len(line.get_xdata()) > 2 for line in ax.lines[:4])
    assert "nats per datum" in ax.get_xlabel() and "nats per datum" in ax.get_ylabel()


def test_the_diagonals_are_of_one_elbo(drawn):
    ax = drawn(CURVE)
    totals = [float(t.get_text()) for t in ax.texts if "β" not in t.get_text()]
    lines = [line for line in ax.lines if type(line).__name__ == "AxLine"]
    assert len(lines) == len(totals) >= 3
    for line, total, text in zip(lines, totals, (t for t in ax.texts if "β" not in t.get_text()), strict=True):
        assert line.get_slope() == -1
        np.testing.assert_allclose([sum(line.get_xy1()), sum(text.xy)], total)


@pytest.mark.parametrize("apart", [0.1, 1.0])
def test_names_of_near_points_do_not_overlap(drawn, apart):
    points = [
        {"rate": 20 + apart * i, "distortion": 65 - apart * i / 2, "label": f"run {i} of $many$"} for i in range(8)
    ]
    ax = drawn([*points, {"rate": 3, "distortion": 90, "label": "collapsed"}])
    names = [text for text in ax.texts if "run" in text.get_text()]
    boxes = [Text.get_window_extent(name) for name in names]
    assert len(boxes) == 8
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_errors_are_bars(drawn):
    ax = drawn([{"rate": 20.0, "distortion": 70.0, "rate_error": 2.0, "distortion_error": 3.0}])
    spans = sorted(np.ptp(np.array(c.get_segments()[0]), axis=0).tolist() for c in ax.collections)
    assert spans == [[0, 4], [6, 0]]


def test_one_point_makes_a_file(tmp_path):
    path = save_rate_distortion([{"rate": 0.0, "distortion": 70.0, "label": "collapsed"}], tmp_path / "rd.png")
    assert matplotlib.image.imread(path).shape[:2] == (810, 1020)


def test_what_is_no_point_is_refused(tmp_path):
    for point in ({"rate": 1.0}, {"rate": float("nan"), "distortion": 1.0}):
        with pytest.raises(ValueError, match="lacks a finite rate or distortion"):
            save_rate_distortion([point], tmp_path / "rd.png")
    with pytest.raises(ValueError, match="no point"):
        save_rate_distortion([], tmp_path / "rd.png")
