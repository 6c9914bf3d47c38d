"""The picture and the sentence of weight health."""

import numpy as np
from matplotlib.figure import Figure

from pplvm.plots.weight_diagnostics import has_tails, weight_scatter, weights_sentence


def test_the_sentence_counts_what_lies_above_the_limit(compared):
    ds = compared(1)
    ds["weight_khat"][:], ds["weight_ess"][:], ds["weight_max"][:] = 0.1, 0.25, 0.05
    ds["weight_khat"][:15] = 0.7
    assert weights_sentence(ds) == (
        "Weights of 1,000 draws a datum: at the median they are worth 250 draws and the largest holds 5.0 % of the "
        "weight; 25 % of the data have a k-hat above 0.67, too heavy for importance sampling."
    )
    ds["weight_khat"][30:] = np.nan
    assert "50 % of the 30 data with a tail to fit have" in weights_sentence(ds)
    ds["weight_khat"][:] = np.nan
    assert "no datum has a tail" in weights_sentence(ds)


def test_every_datum_is_a_point_those_without_tail_at_the_bottom(compared):
    ds = compared(1)
    ds["weight_khat"][:7] = np.nan
    ax = Figure().subplots()
    weight_scatter(ds, ax)
    points = {line.get_marker(): 0 for line in ax.lines}
    for line in ax.lines:
        points[line.get_marker()] += int(np.isfinite(line.get_ydata()).sum()) if line.get_marker() in "oD|" else 0
    assert points["|"] == 7 and points["o"] + points["D"] == 53
    assert points["D"] == int((ds["weight_khat"] > 2 / 3).sum())


def test_weights_without_a_tail_make_no_picture(compared):
    assert has_tails(compared(1)) and not has_tails(compared(1).drop_vars("weight_khat"))
    ds = compared(1)
    ds["weight_khat"][:] = np.nan
    assert not has_tails(ds)
