"""The map of correlations and the pair worth combining."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pplvm.plots.correlations import best_combination, combination_sentence, correlation_map


@pytest.fixture
def known(compared):
    """Four estimators of one target: variances 1, 4, 9, 1; the first two correlate by 0.9, all others not at all."""
    ds = compared(4)
    ds["target"][:], ds["verdict"][:] = "elbo", "unbiased"
    ds["variance"][:] = [1.0, 4.0, 9.0, 0.25]
    correlation = np.eye(4)
    correlation[0, 1] = correlation[1, 0] = 0.9
    ds["correlation"][:] = correlation
    return ds


def test_the_best_pair_against_a_search(known):
    first, second, share, gain = best_combination(known)
    assert {first, second} == {"pathwise", "score-function"}
    shares = np.linspace(-3, 3, 60001)
    variance = shares**2 * 1 + (1 - shares) ** 2 * 4 + 2 * shares * (1 - shares) * 0.9 * 2
    assert first == "pathwise" and share == pytest.approx(shares[variance.argmin()], abs=1e-3)
    assert gain == pytest.approx(variance.min(), rel=1e-4) and gain < 0.8
    assert "pathwise and score-function gain most: 1." in combination_sentence(known)


def test_what_may_not_be_combined_is_not(known):
    known["verdict"][1] = "biased"
    assert "score-function" not in best_combination(known)[:2]
    known["target"][:] = ["elbo", "iwae", "log p(x)", "wake-sleep"]
    assert best_combination(known) is None and "can be combined" in combination_sentence(known)


def test_twins_gain_nothing(known):
    known["correlation"][:], known["variance"][:] = 1.0, 2.0
    assert best_combination(known) is None


@pytest.mark.parametrize("count", [2, 28])
def test_labels_do_not_overlap_and_noiseless_estimators_are_left_out(compared, count):
    ds = compared(count)
    ds["variance"][0] = 0.0
    side = 3.4 + 0.36 * count
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    ax = figure.subplots()
    correlation_map(ds, ax)
    figure.draw_without_rendering()
    labels = ax.get_yticklabels()
    assert len(labels) == count - 1 and "pathwise" not in [text.get_text() for text in labels]
    boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 for low, high in zip(boxes[:-1], boxes[1:], strict=True))
    cells = [text.get_window_extent() for text in ax.texts[: count - 1]]
    assert all(left.x1 <= right.x0 for left, right in zip(cells[:-1], cells[1:], strict=True))
